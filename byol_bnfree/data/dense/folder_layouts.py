"""The layouts of dense folders: which files are the pictures and targets of a split.

A picture of `images/` has the mask of the same name in `masks/`, and its depth in
`depths/`. The ending may differ. There are three layouts:

- `PATH/{train,test}/images/` and so on;
- `PATH/images/` and so on: a tenth is the test split, by a hash of the name;
- VOC's: `PATH/JPEGImages/`, `PATH/SegmentationClass/`, and the lists
  `PATH/ImageSets/Segmentation/NAME.txt`, of which `train` and `val` are the usual ones.
  Masks that are missing there are taken from `PATH/SegmentationClassAug/`, the usual
  place of those of `train_aug`.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

from byol_bnfree.data.dense.folder_files import (
    add_unpaired,
    file_of_each,
    files_by_stem,
    named_classes,
)
from byol_bnfree.data.listing import Unused
from byol_bnfree.data.names import printable, some
from byol_bnfree.errors import InputError

TENTH = 0.1  # share of the test split where there are no folders of splits
VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car"),
    *("cat", "chair", "cow", "diningtable", "dog", "horse", "motorbike", "person"),
    *("pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class SplitFiles(NamedTuple):
    """The files of one split. Targets are by the name of the picture without ending."""

    images: tuple[Path, ...]
    masks: dict[str, Path]
    depths: dict[str, Path]
    named: tuple[str, ...]
    """Names of the classes, if classes.txt or VOC gives them."""
    unused: Unused


def has_lists(root: Path) -> bool:
    """Say if a folder has VOC's layout, whose lists of pictures are its splits."""
    return (root / "SegmentationClass").is_dir()


def split_files(root: Path, split: str, part: str | None = None) -> SplitFiles:
    """Find the files of the train or the test split, in whatever layout.

    `part` is the name of a list in VOC's layout; None means the usual one.

    Raises:
      InputError: if a part of the folder is missing, or pictures and targets do not
        belong together.
    """
    if has_lists(root):
        return _voc_files(root, part or {"train": "train", "test": "val"}[split])
    below, unused = root / split if (root / "train").is_dir() else root, Unused()
    images = files_by_stem(below / "images", unused)
    if not images:
        raise InputError(
            f"{printable(below)} has no pictures in images/; a dense task reads "
            f"images/ and masks/ or depths/ of the same names."
        )
    masks, depths = (
        files_by_stem(below / part, unused) for part in ("masks", "depths")
    )
    add_unpaired(images, masks, "masks", unused)
    add_unpaired(images, depths, "depths", unused)
    # No train/ and test/: the names decide the split.
    if below == root:
        wanted = split == "test"
        images = {s: f for s, f in images.items() if _in_test(s) == wanted}
    if not masks and not depths:
        raise InputError(
            f"{printable(below)} has images/ but no masks/ and no depths/, or "
            f"they are empty; add one of them, with a PNG for each picture."
        )
    return SplitFiles(
        images=tuple(images.values()),
        masks=file_of_each(images, masks, "masks", below),
        depths=file_of_each(images, depths, "depths", below),
        named=named_classes(root),
        unused=unused,
    )


def _voc_files(root: Path, part: str) -> SplitFiles:
    file = root / "ImageSets" / "Segmentation" / f"{part}.txt"
    if not file.is_file():
        raise InputError(
            f"{printable(root)} has VOC's SegmentationClass but no {printable(file)}, "
            f"which lists the pictures of the split; add it."
        )
    stems = file.read_text(errors="surrogateescape").split()
    unused = Unused()
    images = files_by_stem(root / "JPEGImages", unused)
    chosen = {stem: images[stem] for stem in stems if stem in images}
    if len(chosen) < len(stems):
        missing = [printable(stem) for stem in stems if stem not in images]
        raise InputError(
            f"{printable(root)}/JPEGImages lacks {some(missing)}, which "
            f"{printable(file)} lists; add the pictures."
        )
    masks = files_by_stem(root / "SegmentationClass", unused)
    masks = files_by_stem(root / "SegmentationClassAug", unused) | masks
    add_unpaired(images, masks, "SegmentationClass", unused)
    return SplitFiles(
        images=tuple(chosen.values()),
        masks=file_of_each(chosen, masks, "SegmentationClass", root),
        depths={},
        named=named_classes(root) or VOC_NAMES,
        unused=unused,
    )


def _in_test(stem: str) -> bool:
    # A hash, so that a picture stays in its split when others are added.
    digest = hashlib.sha256(stem.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:4], "big") < TENTH * 2**32
