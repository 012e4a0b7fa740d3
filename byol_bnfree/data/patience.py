"""A line every few seconds while many files are looked at."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
SECONDS = 5.0  # before the first line, and between two


def shown(items: Iterable[T], total: int, doing: str) -> Iterator[T]:
    """The items; where they take long, process 0 says on stderr how far it is."""
    said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said > SECONDS:
            said = now
            if _is_primary():
                print(f"{doing}: {done:,} of {total:,}", file=sys.stderr, flush=True)


def _is_primary() -> bool:
    import jax  # here, because worker processes do without it

    return jax.process_index() == 0
