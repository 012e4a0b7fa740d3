"""Dense examples of sets that tensorflow-datasets has prepared.

| name              | targets | notes                                             |
|-------------------|---------|---------------------------------------------------|
| `voc/2007`, 2012  | boxes   | its masks are not in the prepared set (see folder);
|                   |         | the test split of 2012 has no boxes               |
| `coco/2014`, 2017 | boxes   | crowds are difficult                              |
| `oxford_iiit_pet` | mask    | pet and background; the border is ignored         |
| `nyu_depth_v2`    | depth   | metres                                            |
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from einops import rearrange
from jaxtyping import Int

from byol_bnfree.data.dense.example import (
    IGNORE,
    Example,
    WrongSize,
    make_example,
)
from byol_bnfree.data.dense.pixel_files import read_picture
from byol_bnfree.data.eight_bits import AS_IT_IS, Conversion
from byol_bnfree.data.fingerprint import checksum, sizes_and_times
from byol_bnfree.data.names import printable
from byol_bnfree.data.prepared import data_root, find_set
from byol_bnfree.data.set_files import Span, read_spans
from byol_bnfree.data.tf_example import decode_example
from byol_bnfree.errors import InputError

Parts = dict[str, np.ndarray]
TRIMAP = np.array([IGNORE, 1, 0, IGNORE])  # of the pets: 1 pet, 2 background, 3 border


class Kind(NamedTuple):
    """How to read a set: its targets, and the targets of a record."""

    targets: frozenset[str]
    read: Callable[[Any, tuple[int, int]], Parts]
    """From the features of a record and the picture's (height, width)."""
    class_names: tuple[str, ...] = ()
    splits: tuple[str, str] = ("train", "test")
    """The usual names of the training and of the test split."""


def _objects(record: Any, size: tuple[int, int], mark: str) -> Parts:
    """Boxes are stored as shares of the sides."""
    flat = np.float32(record["objects/bbox"].float_list.value)
    boxes = rearrange(flat, "(k c) -> k c", c=4) * np.float32([*size, *size])
    kinds = np.array(record["objects/label"].int64_list.value, int)
    marks = np.array(record[f"objects/{mark}"].int64_list.value, bool)
    return {"boxes": boxes, "box_class": kinds, "difficult": marks}


def _voc(record: Any, size: tuple[int, int]) -> Parts:
    """Move the first corners: VOC counts pixels from 1, and the set stores its numbers.

    The last corner stays, because VOC's boxes include their last pixel.
    """
    parts = _objects(record, size, "is_difficult")
    return parts | {"boxes": parts["boxes"] - np.float32([1, 1, 0, 0])}


def _coco(record: Any, size: tuple[int, int]) -> Parts:
    return _objects(record, size, "is_crowd")


def _pet(record: Any, size: tuple[int, int]) -> Parts:
    encoded = record["segmentation_mask"].bytes_list.value[0]
    stored = AS_IT_IS._replace(upright=False)
    trimap = read_picture(encoded, "segmentation_mask", 1, stored)[..., 0]
    return {"mask": TRIMAP[np.minimum(trimap, 3)]}


def _nyu(record: Any, size: tuple[int, int]) -> Parts:
    depth = np.float32(record["depth"].float_list.value)
    known = np.where(np.isfinite(depth) & (depth > 0), depth, 0)
    return {"depth": known.reshape(size)}


BOXES, MASK, DEPTH = (frozenset({target}) for target in ("boxes", "mask", "depth"))
KINDS: dict[str, Kind] = {
    "voc": Kind(BOXES, _voc, splits=("train+validation", "test")),
    "voc/2012": Kind(BOXES, _voc, splits=("train", "validation")),
    "coco": Kind(BOXES, _coco, splits=("train", "validation")),
    "oxford_iiit_pet": Kind(MASK, _pet, ("background", "pet")),
    "nyu_depth_v2": Kind(DEPTH, _nyu, splits=("train", "validation")),
}


@dataclass(frozen=True)
class DensePrepared:
    """One split of a prepared set; see `example.DenseSource`."""

    name: str
    split: str
    part: str
    """The records of the split in the words of the set, such as train[:90%]."""
    targets: frozenset[str]
    class_names: tuple[str, ...]
    box_names: tuple[str, ...]
    location: str
    spans: tuple[Span, ...]
    kind: Kind
    channels: int
    how: Conversion = AS_IT_IS

    @staticmethod
    def open(
        name: str,
        split: str,
        part: str | None,
        data_dir: str | None,
        channels: int,
        how: Conversion = AS_IT_IS,
    ) -> "DensePrepared":
        """Open `part` (such as train[:90%]), or the usual part for train or test.

        Raises:
          InputError: if the set is missing or unknown here, or lacks the split.
        """
        of_version = name.partition(":")[0]  # such as voc/2012
        of_set = of_version.partition("/")[0]
        kind = KINDS.get(of_version) or KINDS.get(of_set)
        if kind is None:
            raise InputError(
                f"the targets of {name} are not known for dense tasks; choose shapes, "
                f"folder:PATH, or one of {', '.join(KINDS)}."
            )
        found = find_set(name, data_root(data_dir))
        part = part or kind.splits[("train", "test").index(split)]
        return DensePrepared(
            name=found.name,
            split=split,
            part=part,
            targets=kind.targets,
            class_names=kind.class_names,
            box_names=_box_names(found.path) if "boxes" in kind.targets else (),
            location=printable(found.path),
            spans=tuple(read_spans(found, part)),
            kind=kind,
            channels=channels,
            how=how,
        )

    def __len__(self) -> int:
        return sum(span.take for span in self.spans)

    def example(self, index: int) -> Example:
        """Decode an example; `InputError` if its record or picture is damaged."""
        name = self.file_names(np.array([index]))[0]
        try:
            record = decode_example(self._records[index])
            encoded = record["image"].bytes_list.value[0]
            # The targets are in the frame in which the picture is stored.
            stored = self.how._replace(upright=False)
            image = read_picture(encoded, name, self.channels, stored)
            parts = self.kind.read(record, image.shape[:2])
            return make_example(image, **parts)
        except WrongSize as error:
            raise InputError(f"{name}: {error}") from error
        except InputError:  # it is a ValueError too
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            raise InputError(
                f"{name} does not have the targets of {self.name} ({error}); prepare "
                f"the data set again."
            ) from error

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        return [f"{self.name}/{self.split}/{i}" for i in indices]

    @property
    def identity(self) -> str:
        files = [(Path(s.filename).name, s.skip, s.take) for s in self.spans]
        return checksum(self.name, files, self._on_disk[:, 0])

    @property
    def fingerprint(self) -> str:
        return checksum(self.location, self.identity, self._on_disk[:, 1])

    @cached_property
    def _on_disk(self) -> Int[np.ndarray, "n 2"]:
        return sizes_and_times([span.filename for span in self.spans])

    @cached_property
    def _records(self) -> ArrayRecordDataSource:
        return ArrayRecordDataSource(list(self.spans))


def _box_names(path: Path) -> tuple[str, ...]:
    """Return the names of the objects' classes, from the file that lists them."""
    for name in ("objects-label.labels.txt", "labels.labels.txt"):
        if (path / name).exists():
            return tuple(filter(None, (path / name).read_text("utf-8").split("\n")))
    raise InputError(
        f"{printable(path)} has no objects-label.labels.txt, which names the classes; "
        f"prepare the data set again."
    )
