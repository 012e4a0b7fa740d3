"""Turns names from the disk into text for terminals, figures and files."""

import os
from collections.abc import Iterable


def printable(name: str | bytes | os.PathLike) -> str:
    """Return a name with escapes for invalid UTF-8 and for control characters.

    File names on Linux are bytes. Python represents bytes that are not UTF-8 as lone
    surrogates, which cannot be printed or drawn.
    """
    text = os.fsencode(name).decode("utf-8", errors="backslashreplace")
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def pixels_of_sides(height: int, width: int) -> str:
    """Return a picture's size in words; height first, as in the shape of an array."""
    sides = f"{height} x {width} pixels"
    return sides if height == width else f"{sides} (height x width)"


def some(names: Iterable[str], limit: int = 3) -> str:
    """Join the first names, and say how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
