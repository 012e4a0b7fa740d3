"""Owner tables: the example that each element of an array depends on.

An owner table is an int32 array with the rank of the value it describes. An entry
means:

- 0 or more: the element depends on this example of the batch only;
- FREE: it depends on no example (parameters, constants, random bits);
- a code below FREE: it may depend on several examples, or we cannot tell. The code
  identifies the place in the program where this began.

Axes along which nothing changes have size 1, so tables are small.
"""

from collections.abc import Callable
from typing import SupportsIndex

import numpy as np

Owners = np.ndarray
Blame = Callable[[], int]
"""Returns the code of the current place. It is called only if a code is needed."""

FREE = -1
_FAR = np.iinfo(np.int32).max


def free(rank: int) -> Owners:
    """Return the table of a value that depends on no example."""
    return np.full((1,) * rank, FREE, np.int32)


def filled(code: int, rank: int) -> Owners:
    """Return the table of a value with the same code everywhere."""
    return np.full((1,) * rank, code, np.int32)


def is_free(table: Owners) -> bool:
    """Return True if the value depends on no example."""
    return bool((table == FREE).all())


def smallest(table: Owners) -> Owners:
    """Shrink the table to size 1 along every axis on which nothing changes."""
    if 0 in table.shape:
        return free(table.ndim)
    for axis, size in enumerate(table.shape):
        if size > 1:
            first = table.take([0], axis)
            table = first if (table == first).all() else table
    return table


def combine(a: Owners, b: Owners, blame: Blame) -> Owners:
    """Return the owners of an element that is computed from one element of each table.

    Shapes broadcast. Of two codes the older one stays, because the mixing began there.
    """
    if a.size == 1 and is_free(a) and b.ndim >= a.ndim:
        return b
    if b.size == 1 and is_free(b) and a.ndim >= b.ndim:
        return a
    coded = (a < FREE) | (b < FREE)
    oldest = np.where((a < FREE) & (b < FREE), np.maximum(a, b), np.minimum(a, b))
    one = np.where(a == FREE, b, a)
    table = np.where(coded, oldest, one)
    clash = (a >= 0) & (b >= 0) & (a != b)
    return np.where(clash, blame(), table).astype(np.int32) if clash.any() else table


def merge(table: Owners, axes: tuple[SupportsIndex, ...], blame: Blame) -> Owners:
    """Return the owners of values computed from all elements along `axes` (kept)."""
    axes = tuple(axis for axis in axes if table.shape[axis] > 1)
    if not axes:
        return table
    code = np.where(table < FREE, table, -_FAR).max(axes, keepdims=True)
    low = np.where(table >= 0, table, _FAR).min(axes, keepdims=True)
    high = table.max(axes, keepdims=True)
    one = np.where(high < 0, FREE, high)
    clash = (high >= 0) & (low != high)
    if clash.any():
        one = np.where(clash, blame(), one)
    return np.where(code > -_FAR, code, one).astype(np.int32)


def in_order(table: Owners) -> bool:
    """Return True if the examples appear in rising order, as in an untouched batch."""
    owners = table[table >= 0]
    return bool((np.diff(owners) >= 0).all())
