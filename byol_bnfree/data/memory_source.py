"""Pictures that are decoded once and held in a single array."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int, Int32, UInt8

from byol_bnfree.data.decode import decode
from byol_bnfree.data.eight_bits import Conversion
from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.data.geometry import centre_crop, to_array
from byol_bnfree.data.patience import shown
from byol_bnfree.data.reading import BadImage, Fault
from byol_bnfree.data.records import Layout, Records
from byol_bnfree.machine.memory import check_memory

CHUNK = 64  # pictures that a thread decodes per task


@dataclass
class MemorySource:
    """All images of a split in one array. It is a `sources.Source`."""

    name: str
    split: str
    class_names: tuple[str, ...]
    pixels: UInt8[np.ndarray, "n h w c"]
    targets: Int32[np.ndarray, " n"]
    skipped: dict[str, str] = field(default_factory=dict)
    location: str = ""
    identity: str = ""
    names: Sequence[str] = ()
    """Printable names of the files. With () they are numbered."""
    resized: int = 0
    """Number of pictures that differed in size and were cut and resized."""
    stored_size: tuple[int, int] | None = None
    """Height and width of most pictures on disk; None if they are generated."""
    in_memory = True
    crop_share = 1.0  # part of a picture's shorter side that evaluation uses

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def num_classes(self) -> int | None:
        return len(self.class_names) or None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.pixels.shape[1:]

    @cached_property
    def fingerprint(self) -> str:
        """A checksum of all pixels and labels. It takes 1 s per 1.5 GB."""
        return checksum(self.pixels, self.targets, list(self.class_names))

    def labels(
        self, indices: Int[np.ndarray, " b"] | None = None
    ) -> Int32[np.ndarray, " b"]:
        """Return the labels of all or some images; -1 means no label."""
        return self.targets if indices is None else self.targets[indices]

    def images(self, indices: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b h w c"]:
        """Return whole pictures. Training crops them; evaluation uses them whole."""
        return self.pixels[indices]

    def usable(self, indices: Int[np.ndarray, " b"]) -> Int[np.ndarray, " m"]:
        """Return all indices. Bad pictures were left out when they were decoded."""
        return indices

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        """Return printable names, relative to the data set."""
        if not self.names:
            return [f"{self.name}/{self.split}/{i}" for i in indices]
        return [self.names[i] for i in indices]

    def close(self) -> None:
        """Nothing runs beside it."""


def load(records: Records, layout: Layout, how: Conversion, skip: bool) -> MemorySource:
    """Decode all pictures. Pictures of another size are cut and resized (bicubic).

    Raises:
      InputError: for a bad picture unless `skip`, and if the memory is too small.
      ReadingFailed: if the machine failed.
    """
    n = len(records)
    shape = (n, *layout.size, layout.channels)
    check_memory(
        {f"{n:,} images of {layout.words} pixels": math.prod(shape)},
        "lower --data.in-memory-gib, so that they stream, or --data.image-size",
    )
    pixels = np.empty(shape, np.uint8)
    bad, others = _decode_all(records, layout, how, skip, pixels=pixels)
    # Bad pictures are dropped from every array, so indices agree with the labels.
    kept = np.array([row for row in range(n) if row not in bad], int)
    left_out = {bad[row].name: bad[row].reason for row in sorted(bad)}
    return MemorySource(
        records.name,
        records.split,
        records.class_names,
        pixels[kept] if bad else pixels,  # without bad ones no copy is made
        records.labels(kept),
        skipped=records.skipped | left_out,
        location=records.location,
        identity=records.identity,
        names=records.file_names(kept),
        resized=int(others[kept].sum()),
        stored_size=records.stored_shape[:2],
    )


def _decode_all(
    records: Records,
    layout: Layout,
    how: Conversion,
    skip: bool,
    *,
    pixels: UInt8[np.ndarray, "n h w c"],
) -> tuple[dict[int, BadImage], Bool[np.ndarray, " n"]]:
    """Decode all pictures into `pixels`.

    Return the bad pictures by row, and True for each row whose picture has another size
    than `records.stored_shape`.
    """
    n, bad = len(records), dict[int, BadImage]()
    height, width, _ = records.stored_shape
    others = np.zeros(n, bool)

    def load_some(start: int) -> None:
        """Decode `CHUNK` pictures from `start` on into `pixels`, and note bad ones."""
        rows = np.arange(start, min(start + CHUNK, n))
        for row, (name, file) in zip(rows, records.read(rows), strict=True):
            try:
                image = decode(file, name, layout.channels, how)
                others[row] = image.size != (width, height)
                pixels[row] = to_array(
                    centre_crop(image, layout.size, share=MemorySource.crop_share)
                )
            except Fault as fault:
                raise fault.stop() from fault
            except BadImage as error:
                bad[int(row)] = error
                if not skip:
                    raise error.stop() from error

    starts = range(0, n, CHUNK)
    doing = f"decoding {records.name} {records.split}, parts of {CHUNK}"
    # Threads suffice, because Pillow releases the interpreter's lock as it decodes.
    with ThreadPoolExecutor() as threads:
        for _ in shown(threads.map(load_some, starts), len(starts), doing):
            pass
    return bad, others
