"""A progress line every few seconds while many files are read."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
SECONDS = 5.0  # before the first line and between two lines


def shown(items: Iterable[T], total: int, doing: str) -> Iterator[T]:
    """Yield the items. If they take long, process 0 prints the progress to stderr."""
    said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said > SECONDS:
            said = now
            if _is_primary():
                print(f"{doing}: {done:,} of {total:,}", file=sys.stderr, flush=True)


def _is_primary() -> bool:
    import jax  # imported here, because worker processes work without it

    return jax.process_index() == 0
