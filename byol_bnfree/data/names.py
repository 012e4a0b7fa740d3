"""Names from the disk as text that any terminal, figure and file accepts."""

import os
from collections.abc import Iterable


def printable(name: str | bytes | os.PathLike) -> str:
    """The name with escapes for bytes that are not UTF-8 and for control characters.

    A file name on Linux is bytes. Python keeps those that are not UTF-8 as lone
    surrogates, which can be neither printed nor drawn.
    """
    text = os.fsencode(name).decode("utf-8", errors="backslashreplace")
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def some(names: Iterable[str], limit: int = 3) -> str:
    """The first names, and how many there are if that is more."""
    names = list(names)
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
