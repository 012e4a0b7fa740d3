"""dataset.json: a description of the training data, compared on resume."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from byol_bnfree.data.memory_source import MemorySource
from byol_bnfree.data.names import some
from byol_bnfree.data.sources import DataSet, Source
from byol_bnfree.data.stream import StreamSource
from byol_bnfree.errors import InputError
from byol_bnfree.files import read_json, strict
from byol_bnfree.training.distributed import labelled


def describe_data(
    data_set: DataSet,
    train: MemorySource | StreamSource,
    test: Source | None,
    notes: list[str],
) -> dict[str, Any]:
    """Return the content of dataset.json."""
    found = data_set.found
    return {
        "name": train.name,
        "location": train.location,
        "num_classes": train.num_classes,
        "class_names": train.class_names,
        "image_shape": train.image_shape,
        "size": "generated" if found is None else found.why,
        "held": "in memory" if train.in_memory else "on disk",
        "crop_share": train.crop_share,
        "train": _describe_split(train),
        "test": None if test is None else _describe_split(test),
        "skipped": len({*train.skipped, *(test.skipped if test else ())}),
        "not_used": {} if found is None else found.unused,
        "notes": notes,
    }


def _describe_split(source: Source) -> dict[str, Any]:
    found = {
        "split": source.split,
        "images": len(source),
        "identity": source.identity,
    }
    if isinstance(source, MemorySource):
        found["pixels"] = source.fingerprint
    return found


def read_description(workdir: Path) -> dict[str, Any]:
    """Return a run's dataset.json; {} if there is none.

    Raises:
      InputError: if it is damaged, or has other fields than those of a run.
    """
    saved = read_json(workdir / "dataset.json") or {}
    splits = all(_is_split(saved.get(split)) for split in ("train", "test"))
    if not (splits and isinstance(saved.get("class_names"), list | None)):
        raise InputError(
            f"{workdir / 'dataset.json'} is not that of a run; restore or delete it."
        )
    return saved


def _is_split(saved: Any) -> bool:
    """Return True for None too: there may be no test split."""
    if not isinstance(saved, dict):
        return saved is None
    return isinstance(saved.get("images"), int | None)


def compare_data(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """List the differences between a run's dataset.json and the present data.

    Files of older versions lack some fields. These are not compared.
    """
    now, differing = strict(now), []
    for key in ("image_shape", "held"):
        if key in saved and saved[key] != now[key]:
            differing.append(f"{key}: {saved[key]} -> {now[key]}")
    before, after = saved.get("class_names"), now["class_names"]
    if before is not None and before != after:
        differing.append(_classes(before, after))
    for split in ("train", "test"):
        if _is_counted(saved.get(split)) and now[split]:
            differing += _compare_split(split, saved[split], now[split])
    return differing


def changes_of(saved: dict[str, Any], sources: Sequence[Source]) -> list[str]:
    """List the splits that are not as a run's dataset.json describes them.

    Files of older versions, and those of other projects' networks, do not say it.
    """
    differing = []
    for source in sources:
        before = saved.get(source.split)
        if _is_counted(before) and "identity" in before:
            now = _describe_split(source)
            differing += _compare_split(source.split, before, now) or (
                [f"{source.split}: other pixels"] if _other_pixels(before, now) else []
            )
    return differing


def _other_pixels(before: dict[str, Any] | None, now: dict[str, Any] | None) -> bool:
    """Say if two descriptions of a split have checksums of pixels that differ."""
    pixels = [(split or {}).get("pixels") for split in (before, now)]
    return None not in pixels and pixels[0] != pixels[1]


def other_pixels(saved: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Return a sentence if names and sizes of files are the same, but pixels are not.

    Only sets in memory have this checksum. It is no error: another version of a decoder
    gives other pixels too.
    """
    differing = [
        split
        for split in ("train", "test")
        if _other_pixels(saved.get(split), now.get(split))
    ]
    if not differing:
        return None
    return labelled(
        "note",
        f"the pixels of {' and '.join(differing)} have changed since the "
        f"run began: files were changed, or another version decodes them",
    )


def _is_counted(saved: dict[str, Any] | None) -> bool:
    """Return False for networks of other projects, whose test pictures are unknown."""
    return (saved or {}).get("images") is not None


def _classes(before: list[str], after: list[str]) -> str:
    gone = [name for name in before if name not in set(after)]
    new = [name for name in after if name not in set(before)]
    parts = [
        f"{len(names)} {word} ({some(names)})"
        for word, names in (("gone", gone), ("new", new))
        if names
    ]
    return f"classes: {', '.join(parts) or 'in another order'}"


def _compare_split(split: str, saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    if saved["images"] != now["images"]:
        return [f"{split} images: {saved['images']:,} -> {now['images']:,}"]
    if saved.get("identity", now["identity"]) != now["identity"]:
        return [f"{split} images: as many, but other files, names, sizes or classes"]
    return []
