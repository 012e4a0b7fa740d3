"""Folders of pictures with masks, depths, or both: `folder:PATH`.

`folder_layouts` finds the files of a split.

A mask is a PNG of one byte per pixel, gray or with a palette. Its value is the class,
and 255 is ignored. `PATH/classes.txt` may name the classes, one per line. Without it
there are as many as the masks show. A depth is a PNG of 16 bits in millimetres; 0 is
unknown.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from byol_bnfree.data.dense.example import IGNORE, Example, make_example
from byol_bnfree.data.dense.folder_files import files_by_stem
from byol_bnfree.data.dense.folder_layouts import split_files
from byol_bnfree.data.dense.pixel_files import (
    check_depth,
    check_same_size,
    classes_of,
    picture_size,
    read_depth,
    read_mask,
    read_picture,
)
from byol_bnfree.data.eight_bits import AS_IT_IS, Conversion
from byol_bnfree.data.fingerprint import checksum, sizes_and_times
from byol_bnfree.data.listing import Unused
from byol_bnfree.data.names import printable
from byol_bnfree.errors import InputError


@dataclass(frozen=True)
class DenseFolder:
    """One split of a folder; see `example.DenseSource`."""

    name: str
    split: str
    root: Path
    images: tuple[Path, ...]
    masks: dict[str, Path]
    depths: dict[str, Path]
    named: tuple[str, ...]
    channels: int
    how: Conversion = AS_IT_IS
    unused: Unused = field(default_factory=Unused)
    """Files that were found but are not used."""
    box_names: tuple[str, ...] = ()

    @staticmethod
    def open(
        path: str,
        split: str,
        channels: int,
        how: Conversion = AS_IT_IS,
        part: str | None = None,
    ) -> "DenseFolder":
        """Open the train or the test split. `how` tells how pictures become pixels.

        `part` names another list of VOC's layout, such as train_aug.

        Raises:
          InputError: if there is no such folder, a part of it is missing, or pictures
            and masks do not belong together.
        """
        root = Path(path)
        if not root.is_dir():
            raise InputError(
                f"folder {printable(path)!r} does not exist; give "
                f"--dataset=folder:PATH."
            )
        found = split_files(root, split, part)
        return DenseFolder(
            name=printable(root.name),
            split=split,
            root=root,
            images=found.images,
            masks=found.masks,
            depths=found.depths,
            named=found.named,
            channels=channels,
            how=how,
            unused=found.unused,
        )

    @property
    def location(self) -> str:
        return printable(self.root)

    @property
    def targets(self) -> frozenset[str]:
        there = {"mask": self.masks, "depth": self.depths}
        return frozenset(target for target, files in there.items() if files)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The named classes, or as many as the masks of both splits show."""
        if self.named or not self.masks:
            return self.named
        below = (self.root, self.root / "train", self.root / "test")
        files = []
        for part in below:
            images, masks = (
                files_by_stem(part / name, Unused()) for name in ("images", "masks")
            )
            files += [masks[stem] for stem in images if stem in masks]
        seen = sorted({int(v) for file in files for v in classes_of(file)})
        count = seen[-1] + 1 if seen else 1
        if len(seen) > 1 and len(seen) < count / 2:
            raise InputError(
                f"the masks of {printable(self.root)} have the values "
                f"{', '.join(map(str, seen))}, so most of the {count} classes from 0 "
                f"have no pixel; number the classes from 0 (255 is ignored), or name "
                f"all {count} in classes.txt."
            )
        return tuple(map(str, range(count)))

    def __len__(self) -> int:
        return len(self.images)

    def example(self, index: int) -> Example:
        """Decode a picture with its targets; `InputError` if they do not fit."""
        file = self.images[index]
        image = read_picture(str(file), printable(file), self.channels, self.how)
        mask, depth = self.masks.get(file.stem), self.depths.get(file.stem)
        found = {
            "mask": None if mask is None else self._mask(mask),
            "depth": None if depth is None else read_depth(depth),
        }
        for target, array in found.items():
            if array is not None:
                check_same_size(file, target, array.shape, image.shape[:2])
        return make_example(image, **found)

    def check(self, target: str, indices: Int[np.ndarray, " m"]) -> set[int]:
        """Read headers of pictures, and their masks or the headers of their depths.

        A fault in the last file would otherwise end a fit after hours.

        Returns:
          The classes that the masks show.

        Raises:
          InputError: for the first file that cannot be used, or if all masks of the
            training split show one class only.
        """
        seen: set[int] = set()
        for file in (self.images[i] for i in indices):
            if target == "mask":
                mask = self._mask(self.masks[file.stem])
                seen, size = seen | set(np.unique(mask).tolist()), mask.shape
            else:
                size = check_depth(self.depths[file.stem])
            check_same_size(file, target, size, picture_size(file, self.how))
        if self.split == "train" and len(seen - {IGNORE}) == 1:
            ignored = ", and 255, which is ignored" if IGNORE in seen else ""
            raise InputError(
                f"all masks of {printable(self.root)} show only the class "
                f"{min(seen)}{ignored}, so nothing can be learned; give masks with at "
                f"least two classes, such as 0 and 1."
            )
        return seen - {IGNORE}

    def _mask(self, file: Path) -> UInt8[np.ndarray, "h w"]:
        mask = read_mask(file)
        wrong = mask[(mask >= len(self.class_names)) & (mask != IGNORE)]
        if wrong.size:
            raise InputError(
                f"{printable(file)} has the class {wrong[0]}, but there are "
                f"{len(self.class_names)} classes, from 0, and 255 is ignored; correct "
                f"the mask or classes.txt."
            )
        return mask

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        return [printable(self.images[i].name) for i in indices]

    @property
    def identity(self) -> str:
        """A checksum of the files' names and sizes, and of the named classes."""
        names = [printable(file.name) for file in self._files]
        return checksum([*names, *self.named], self._on_disk[:, 0])

    @property
    def fingerprint(self) -> str:
        return checksum(self.location, self.identity, self._on_disk[:, 1])

    @property
    def _files(self) -> list[Path]:
        return [*self.images, *self.masks.values(), *self.depths.values()]

    @cached_property
    def _on_disk(self) -> Int[np.ndarray, "n 2"]:
        return sizes_and_times([str(file) for file in self._files])
