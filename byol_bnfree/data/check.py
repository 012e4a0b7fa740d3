"""Finds unusual pictures of a data set, as the network will see them."""

import math

import numpy as np
from jaxtyping import Bool, Int, UInt8

from byol_bnfree.data.memory_source import MemorySource
from byol_bnfree.data.names import some
from byol_bnfree.data.sources import Source

SAMPLE = 256  # pictures whose values are counted; a streamed set looks at these only
CHUNK_BYTES = 2**26  # of pictures compared at a time
HANDFUL = 17  # values; photographs have more, but 12 bits read as 16 have at most these


def odd_pictures(source: Source) -> list[str]:
    """Return sentences about pictures that were perhaps not read as intended.

    They tell of pictures in one plain colour, pictures with a handful of values, and
    sets whose pictures are all equal. None is an error: drawings look like this.
    """
    sample = np.unique(np.linspace(0, len(source) - 1, SAMPLE).astype(int))
    sample = source.usable(sample)
    looked = np.arange(len(source)) if source.in_memory else sample
    few = [_few_values(source.images(rows)) for rows in in_chunks(source, sample)]
    # The empty array is for samples without a usable picture.
    few = np.concatenate([*few, np.array([], bool)])
    plain, all_equal = _plain(source, looked)
    notes = []
    if all_equal and len(looked) > 1:
        notes.append(f"all {len(looked):,} pictures checked are equal")
    elif len(plain):
        notes.append(
            f"{len(plain):,} of {len(looked):,} pictures checked have one plain "
            f"colour: {_names(source, plain)}"
        )
    few = np.setdiff1d(sample[few], plain)
    if len(few):
        notes.append(
            f"{len(few):,} of {len(sample):,} pictures checked have at most {HANDFUL} "
            f"values: {_names(source, few)}"
        )
    if notes:
        notes[-1] += (
            "; if the files look different, see --data.white (more than 8 bits) and "
            "--data.alpha (transparency)"
        )
    if isinstance(source, MemorySource) and source.resized:
        height, width, _ = source.image_shape
        notes.append(
            f"{source.resized:,} pictures of another size than the others were cut "
            f"{'square ' * (height == width)}and resized"
        )
    return notes


def smaller_copies(source: Source) -> list[str]:
    """Return a note if views are cut from copies smaller than the pictures; or none."""
    if not isinstance(source, MemorySource) or source.stored_size is None:
        return []
    stored, (height, width, _) = source.stored_size, source.image_shape
    if stored[0] <= height and stored[1] <= width:
        return []
    return [
        f"pictures of {stored[0]}x{stored[1]} are held in memory at {height}x{width}, "
        f"and views are cut from these smaller copies; with --data.in-memory-gib=0 "
        f"they are cut from the pictures themselves"
    ]


def in_chunks(
    source: Source, rows: Int[np.ndarray, " n"], size: int = CHUNK_BYTES
) -> list[Int[np.ndarray, " m"]]:
    """Cut indices into parts whose pictures have at most `size` bytes, or are one."""
    count = max(1, size // math.prod(source.image_shape))
    return [rows[start : start + count] for start in range(0, len(rows), count)]


def _plain(
    source: Source, rows: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " m"], bool]:
    """Return the pictures of one colour, and True if all pictures are equal."""
    plain, equal, first = [], True, None
    for chosen in in_chunks(source, rows):
        images = source.images(chosen)
        first = images[:1] if first is None else first
        equal = equal and bool((images == first).all())
        is_plain = (images == images[:, :1, :1]).all(axis=(1, 2, 3))
        plain.append(chosen[is_plain])
    return np.concatenate([*plain, np.array([], int)]), equal


def _few_values(images: UInt8[np.ndarray, "n h w c"]) -> Bool[np.ndarray, " n"]:
    enough = images[0].size > 4 * HANDFUL  # a tiny picture has few pixels
    counts = [np.count_nonzero(np.bincount(i.ravel())) for i in images]
    return np.array(counts) <= HANDFUL if enough else np.zeros(len(images), bool)


def _names(source: Source, rows: Int[np.ndarray, " n"]) -> str:
    more = f" and {len(rows) - 3:,} more" if len(rows) > 3 else ""
    return some(source.file_names(rows[:3])) + more
