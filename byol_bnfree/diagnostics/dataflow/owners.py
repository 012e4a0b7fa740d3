"""The example that each element of an array depends on.

An owner table is an int32 array of the rank of the value it describes. An entry is the
number of the one example of the batch that the element depends on, FREE if it depends
on none (parameters, constants, random bits), or a code below FREE: it may depend on
several, or that is not known, and the code says at which place of the program it
became so. Axes along which nothing changes have size 1, so a table is small.
"""

from collections.abc import Callable
from typing import SupportsIndex

import numpy as np

Owners = np.ndarray
Blame = Callable[[], int]
"""Gives the code of the place at hand; called only where a code is needed."""

FREE = -1
_FAR = np.iinfo(np.int32).max


def free(rank: int) -> Owners:
    """The table of a value that depends on no example."""
    return np.full((1,) * rank, FREE, np.int32)


def filled(code: int, rank: int) -> Owners:
    """The table of a value with the same code everywhere."""
    return np.full((1,) * rank, code, np.int32)


def is_free(table: Owners) -> bool:
    """Whether the value depends on no example."""
    return bool((table == FREE).all())


def smallest(table: Owners) -> Owners:
    """The table with size 1 along every axis on which nothing changes."""
    if 0 in table.shape:
        return free(table.ndim)
    for axis, size in enumerate(table.shape):
        if size > 1:
            first = table.take([0], axis)
            table = first if (table == first).all() else table
    return table


def combine(a: Owners, b: Owners, blame: Blame) -> Owners:
    """Owners of an element computed from one element of each; shapes broadcast.

    Of two codes the older stays: it is where the mixing began.
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
    """Owners of what is computed from all elements along `axes`, which keep size 1."""
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
    """Whether the examples appear in rising order, as they do in an untouched batch."""
    owners = table[table >= 0]
    return bool((np.diff(owners) >= 0).all())
