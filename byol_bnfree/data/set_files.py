"""A prepared data set by its JSON files: features, classes, and the files of splits.

The format is that of tensorflow-datasets, which is not needed to read it.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from byol_bnfree.data.prepared import PreparedSet
from byol_bnfree.errors import InputError

IMAGE, LABEL = "image_feature.Image", "class_label_feature.ClassLabel"
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
SLICE = re.compile(r"([\w.-]+)(?:\[([^:\]]*):([^:\]]*)\])?")
BOUNDARY = re.compile(r"(-?\d+)|(-?\d+(?:\.\d+)?)%")


class Span(NamedTuple):
    """Consecutive records of a file, as array_record's data source takes them."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


class Features(NamedTuple):
    """The image and the class of an example."""

    image: str
    stored_shape: tuple[int | None, int | None, int | None]
    label: str | None
    class_names: tuple[str, ...]


def read_features(found: PreparedSet) -> Features:
    """From features.json; the supervised pair if the set names one.

    Raises: InputError for a set without an image.
    """
    features = _features(found)
    # A set may have several images. Its supervised pair names the main one.
    pair = [key for key in _supervised(found) if key in features]
    order = list(dict.fromkeys([*pair, *features]))
    images = [key for key in order if _kind(features[key]) == IMAGE]
    labels = [key for key in order if _kind(features[key]) == LABEL]
    if not images:
        raise InputError(
            f"data set {found.name} has no image among its features "
            f"({', '.join(features)}); choose another."
        )
    image, label = images[0], labels[0] if labels else None
    shape = features[image]["image"].get("shape", {}).get("dimensions", ["-1"] * 3)
    sizes = tuple(int(size) if int(size) > 0 else None for size in shape)
    return Features(
        image,
        sizes,
        label,
        () if label is None else _class_names(found, label, features[label]),
    )


def read_spans(found: PreparedSet, split: str) -> list[Span]:
    """The records of a split such as `train`, `train[:90%]` or `train+test[10:20]`.

    Raises: InputError for a split or slice that is not there, is empty, or lacks files.
    """
    spans = []
    for part in split.split("+"):
        spans += _spans_of(found, part.strip(), split)
    if not spans:
        raise InputError(
            f"split {split!r} of data set {found.name} is empty; give a larger slice."
        )
    for span in spans:
        if not Path(span.filename).exists():
            raise InputError(
                f"data set {found.name} lacks its file {span.filename}; remove the "
                f"data set and prepare it again."
            )
    return spans


def _spans_of(found: PreparedSet, part: str, split: str) -> list[Span]:
    match = SLICE.fullmatch(part)
    lengths = None if match is None else found.shards.get(match[1])
    if match is None or lengths is None:
        raise _no_split(found, split)
    total = sum(lengths)
    bounds = [text.strip() for text in match.groups("")[1:]]
    if any(text.endswith("%") for text in bounds):  # which then holds for both
        bounds = [f"{text.rstrip('%')}%" if text else "" for text in bounds]
    first = _boundary(found, split, bounds[0] or "0", total)
    last = _boundary(found, split, bounds[1] or str(total), total)
    spans, start = [], 0
    for index, length in enumerate(lengths):
        begin, end = max(first - start, 0), min(last - start, length)
        if begin < end:
            path = str(found.path / _file_name(found, match[1], index))
            spans.append(Span(path, begin, end - begin, length))
        start += length
    return spans


def _boundary(found: PreparedSet, split: str, text: str, total: int) -> int:
    """A record number; percents are rounded as tensorflow-datasets rounds them."""
    match = BOUNDARY.fullmatch(text)
    if match is None:
        raise _no_split(found, split)
    number, percent = match[1], match[2]
    value = int(number) if number else round(float(percent) * total / 100)
    value = value + total if value < 0 or text.startswith("-") else value
    if not 0 <= value <= total:
        raise _no_split(found, split)
    return value


def _no_split(found: PreparedSet, split: str) -> InputError:
    return InputError(
        f"data set {found.name} has no split {split!r}; it has "
        f"{', '.join(found.splits)}, which may be sliced as in 'train[:90%]'."
    )


def _file_name(found: PreparedSet, split: str, shard: int) -> str:
    of_split = next(s for s in _info(found)["splits"] if s["name"] == split)
    template = of_split.get("filepathTemplate") or TEMPLATE
    parts = {
        "DATASET": found.name.partition("/")[0],
        "SPLIT": split,
        "FILEFORMAT": found.file_format,
        "SHARD_INDEX": f"{shard:05}",
        "NUM_SHARDS": f"{len(found.shards[split]):05}",
        "SHARD_X_OF_Y": f"{shard:05}-of-{len(found.shards[split]):05}",
    }
    name = template.format(**parts)
    return Path(name).name  # of this folder, whatever the file says


def _class_names(found: PreparedSet, label: str, feature: dict) -> tuple[str, ...]:
    path = found.path / f"{label}.labels.txt"
    if path.exists():
        return tuple(line for line in path.read_text("utf-8").split("\n") if line)
    count = int(feature.get("classLabel", {}).get("numClasses", 0))
    return tuple(map(str, range(count)))


def _features(found: PreparedSet) -> dict[str, Any]:
    path = found.path / "features.json"
    try:
        return json.loads(path.read_bytes())["featuresDict"]["features"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} does not describe a data set ({type(error).__name__}: {error}); "
            f"prepare it again."
        ) from error


def _kind(feature: dict[str, Any]) -> str:
    return ".".join(feature.get("pythonClassName", "").split(".")[-2:])


def _supervised(found: PreparedSet) -> list[str]:
    items = _info(found).get("supervisedKeys", {}).get("tuple", {}).get("items", [])
    return [item["featureKey"] for item in items if "featureKey" in item]


def _info(found: PreparedSet) -> dict[str, Any]:
    return json.loads((found.path / "dataset_info.json").read_bytes())
