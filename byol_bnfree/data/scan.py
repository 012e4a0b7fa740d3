"""Reads the headers of many pictures to learn their sizes and kinds."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from byol_bnfree.data.decode import Header, read_header
from byol_bnfree.data.eight_bits import Conversion
from byol_bnfree.data.names import pixels_of_sides, printable, some
from byol_bnfree.data.patience import shown
from byol_bnfree.data.reading import BadImage, Fault
from byol_bnfree.errors import InputError

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
    usual: str = ""
    """The size of most pictures, in words, if sizes differ."""
    bad: dict[str, BadImage] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def why(self) -> str:
        """The reason for the input size, in words."""
        height, width, channels = self.shape
        kind = {1: "grayscale", 3: "colour"}.get(channels, f"{channels} channels")
        of = f"all {self.looked:,} pictures" if self.looked > 1 else "the picture"
        if self.looked < self.pictures:
            of = f"{self.looked:,} of {self.pictures:,} pictures, a fixed sample,"
        if height is None or width is None:
            return f"{of} were checked: sizes differ{self.usual}, {kind}"
        are = "are" if self.looked > 1 else "is"
        return f"{of} {are} {pixels_of_sides(height, width)}, {kind}"


def scan(paths: Sequence[str], how: Conversion, skip: bool) -> Scan:
    """Read the headers of all pictures, or of a fixed sample of `SCAN_LIMIT`.

    Raises:
      InputError: for the first bad picture, unless `skip`, and for numbers of channels
        that cannot be converted into each other.
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
                # Do not read the rest of a million headers before the message.
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
    shape = _shape(headers, how.channels)
    notes, usual = _notes(pages, bands), _usual(headers)
    return Scan(len(paths), len(chosen), shape, usual, bad, notes)


def _usual(headers: list[Header]) -> str:
    """A few pictures of another size decide the input, so say how many they are."""
    if not headers:
        return ""
    sizes = Counter((header.width, header.height) for header in headers)
    ((width, height), count) = sizes.most_common(1)[0]
    if not len(headers) / 2 < count < len(headers):
        return ""
    sides = pixels_of_sides(height, width)
    return f" ({count:,} are {sides}; see --data.image-size)"


def _shape(
    headers: list[Header], wanted: int | None
) -> tuple[int | None, int | None, int]:
    heights, widths = {h.height for h in headers}, {h.width for h in headers}
    height = heights.pop() if len(heights) == 1 else None
    width = widths.pop() if len(widths) == 1 else None
    return height, width, _channels({h.channels for h in headers}, wanted)


def _channels(found: set[int], wanted: int | None) -> int:
    """One number for all; gray and colour together are colour."""
    if wanted is not None:
        return wanted
    if found <= {1, 3}:
        return 1 if found == {1} else 3
    if len(found) > 1:
        numbers = " and ".join(map(str, sorted(found)))
        raise InputError(
            f"some pictures have {numbers} channels; give --data.channels and skip "
            f"the others with --on-bad-image=skip, or move them to another folder."
        )
    return found.pop()


def _notes(pages: list[str], bands: list[str]) -> list[str]:
    notes = []
    if pages:
        notes.append(
            f"only the first page or frame is used of {len(pages):,} files that have "
            f"several: {some(pages)}"
        )
    if bands:
        notes.append(f"some bands are not used in {len(bands):,} files: {some(bands)}")
    return notes
