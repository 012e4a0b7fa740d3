"""Finds the data sets that are prepared on disk, in the layout of tensorflow-datasets.

We read each set's dataset_info.json ourselves, so a missing set is reported at once.
tensorflow-datasets would first retry a download for minutes. We import it only where we
need it, because the import takes seconds.
"""

import contextlib
import importlib.util
import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from byol_bnfree.data.meant import meant, refuse_path
from byol_bnfree.errors import InputError
from byol_bnfree.files import expanded

CLASS_KEYS = ("pythonClassName", "python_class_name", "type")  # in features.json
FILE_FORMAT = "array_record"  # the only format with random access without TensorFlow


class PreparedSet(NamedTuple):
    """One version of one data set, as its dataset_info.json describes it."""

    name: str  # with the configuration's name, if any: imagenet_resized/32x32
    version: str
    file_format: str
    splits: dict[str, int]
    path: Path
    shards: dict[str, tuple[int, ...]]  # records of each file of a split


def data_root(data_dir: str | None) -> Path:
    """Return the given folder, or the default of tensorflow-datasets."""
    if data_dir is not None:
        return expanded(data_dir)
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return expanded(default)


def absolute_root(data_dir: str | None) -> str | None:
    """Return a value of --data-dir that means the same in every working folder."""
    return None if data_dir is None else str(expanded(data_dir).absolute())


def needs_reader() -> None:
    """Raise `InputError` if tensorflow-datasets, which reads the sets, is missing."""
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise InputError(
            "prepared data sets are read by tensorflow-datasets, which is not "
            'installed; install it: pip install ".[tfds]"'
        )


def list_sets(root: Path) -> list[PreparedSet]:
    """Return every data set under `root`, sorted by name and version.

    Files of this name that have another form are passed over: Hugging Face's
    `save_to_disk` writes such files too.
    """
    found = []
    if not os.path.isdir(root):  # Path.glob would fail on a name that is too long
        return found
    for pattern in ("*/*/dataset_info.json", "*/*/*/dataset_info.json"):
        for path in root.glob(pattern):
            if "incomplete" in path.parent.name:  # an interrupted preparation
                continue
            try:
                info = json.loads(path.read_bytes())
            except ValueError as error:
                raise InputError(f"{path} is not JSON ({error}); remove it.") from error
            shards = _shards(info)
            if shards is None:
                continue
            splits = {name: sum(lengths) for name, lengths in shards.items()}
            name = path.parent.parent.relative_to(root).as_posix()
            file_format = info.get("fileFormat", "tfrecord")
            version = path.parent.name
            found.append(
                PreparedSet(name, version, file_format, splits, path.parent, shards)
            )
    return sorted(found, key=lambda s: (s.name, _version_key(s.version)))


def _shards(info: Any) -> dict[str, tuple[int, ...]] | None:
    """Return the records of each file by split; None if `info` is of another program.

    tensorflow-datasets lists the splits. Others map their names.
    """
    splits = info.get("splits") if isinstance(info, dict) else None
    if not isinstance(splits, list):
        return None
    try:
        return {
            str(split["name"]): tuple(map(int, split.get("shardLengths", [])))
            for split in splits
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def find_set(name: str, root: Path) -> PreparedSet:
    """Return the newest readable version of NAME[/CONFIG][:VERSION] under `root`.

    Raises:
      InputError: if the set is missing, ambiguous, or stored in another format.
    """
    refuse_path(name)
    wanted, _, version = name.partition(":")
    given = shlex.join(["prepare", name, f"--data-dir={root}"])
    command = f"python -m byol_bnfree.data {given}"
    sets = [s for s in list_sets(root) if not version or s.version == version]
    matches = [s for s in sets if s.name == wanted]
    if not matches:
        # A set with a single configuration is found without it.
        matches = [s for s in sets if s.name.startswith(f"{wanted}/")]
        configs = sorted({s.name for s in matches})
        if len(configs) > 1:
            raise InputError(
                f"data set {name} is in {root} in several configurations; choose one "
                f"of {', '.join(configs)}."
            )
    if not matches:
        there = sorted({s.name for s in list_sets(root)})
        raise InputError(
            f"data set {name} is not in {root} (there: {', '.join(there) or 'none'})"
            f"; {meant(name, there) or f'prepare it: {command}'}"
        )
    readable = [s for s in matches if s.file_format == FILE_FORMAT]
    if not readable:
        raise InputError(
            f"data set {name} in {root} is stored as {matches[-1].file_format}, but "
            f"only {FILE_FORMAT} can be read here; prepare it in another folder: "
            f"python -m byol_bnfree.data prepare {name} --data-dir=DIR"
        )
    return readable[-1]


def check_features(found: PreparedSet) -> None:
    """Raise `InputError` if a set names a Python class outside tensorflow-datasets.

    tensorflow-datasets imports every module that features.json names, and importing
    runs its code. A data set could thus run any code on this machine.
    """
    path = found.path / "features.json"
    try:
        features = json.loads(path.read_bytes()) if path.exists() else {}
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); prepare it again.") from error
    for name in _class_names(features):
        if not name.startswith("tensorflow_datasets."):
            raise InputError(
                f"{path} names the class {name!r}, but only classes of "
                f"tensorflow_datasets are imported; choose another data set."
            )


def _class_names(node: Any) -> Iterator[str]:
    """Yield the values of `CLASS_KEYS` in nested JSON, and in JSON inside its texts."""
    if isinstance(node, dict):
        yield from (
            v for k, v in node.items() if k in CLASS_KEYS and isinstance(v, str)
        )
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _class_names(item)
    if isinstance(node, str) and node.lstrip().startswith(("{", "[")):
        with contextlib.suppress(ValueError):
            yield from _class_names(json.loads(node))


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in version.split("."))
