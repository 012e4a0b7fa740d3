"""Reads the headers of many pictures to learn their sizes and kinds."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from byol_bnfree.data.decode import Conversion, Header, read_header
from byol_bnfree.data.names import printable, some
from byol_bnfree.data.patience import shown
from byol_bnfree.data.reading import BadImage, Fault

SCAN_LIMIT = 200_000  # headers to read, about 0.1 ms each; larger sets are sampled
SEED = 0  # for that sample


@dataclass
class Scan:
    """The result of reading the headers."""

    pictures: int
    """Number of pictures."""
    looked: int
    """Number of pictures whose header was read."""
    shape: tuple[int | None, int | None, int]
    """Height, width and channels. Height or width is None if the pictures differ."""
    bad: dict[str, BadImage] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def why(self) -> str:
        """The reason for the input size, in words."""
        height, width, channels = self.shape
        kind = "grayscale" if channels == 1 else "colour"
        of = f"all {self.looked:,} pictures"
        if self.looked < self.pictures:
            of = f"{self.looked:,} of {self.pictures:,} pictures, a fixed sample,"
        if height is None or width is None:
            return f"{of} were looked at: sizes differ, {kind}"
        return f"{of} are {width} x {height}, {kind}"


def scan(paths: Sequence[str], how: Conversion, skip: bool) -> Scan:
    """Read the headers of all pictures, or of a fixed sample of `SCAN_LIMIT`.

    Raises:
      InputError: for the first bad picture, unless `skip`.
      ReadingFailed: if the machine failed.
    """
    chosen: Sequence[str] = paths
    if len(paths) > SCAN_LIMIT:
        rng = np.random.default_rng(SEED)
        rows = np.sort(rng.choice(len(paths), SCAN_LIMIT, replace=False))
        chosen = [paths[row] for row in rows]

    def look(path: str) -> Header | BadImage | Fault:
        try:
            return read_header(path, printable(path), how)
        except (BadImage, Fault) as problem:
            return problem

    bad: dict[str, BadImage] = {}
    headers: list[Header] = []
    pages, bands = [], []
    with ThreadPoolExecutor() as threads:
        found = shown(threads.map(look, chosen), len(chosen), "looking at pictures")
        for path, header in zip(chosen, found, strict=True):
            if isinstance(header, Fault) or (isinstance(header, BadImage) and not skip):
                threads.shutdown(cancel_futures=True)
                raise header.stop() from header
            if isinstance(header, BadImage):
                bad[path] = header
                continue
            headers.append(header)
            if header.pages:
                pages.append(printable(path))
            if header.bands:
                bands.append(printable(path))
    return Scan(len(paths), len(chosen), _shape(headers), bad, _notes(pages, bands))


def _shape(headers: list[Header]) -> tuple[int | None, int | None, int]:
    heights, widths = {h.height for h in headers}, {h.width for h in headers}
    height = heights.pop() if len(heights) == 1 else None
    width = widths.pop() if len(widths) == 1 else None
    return height, width, 1 if all(h.grayscale for h in headers) else 3


def _notes(pages: list[str], bands: list[str]) -> list[str]:
    notes = []
    if pages:
        notes.append(
            f"the first picture is used of {len(pages):,} files with several pages or "
            f"frames: {some(pages)}"
        )
    if bands:
        notes.append(f"some bands are not used in {len(bands):,} files: {some(bands)}")
    return notes
