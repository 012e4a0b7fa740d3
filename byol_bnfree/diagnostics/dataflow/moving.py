"""Rules for primitives that move elements: the owners move in the same way."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from byol_bnfree.diagnostics.dataflow.owners import FREE, Owners, combine, free, is_free
from byol_bnfree.diagnostics.dataflow.trace import Site, Value


def broadcast_in_dim(site: Site, inputs: list[Value]) -> list[Owners]:
    """Repeat along new axes; owners need no copies."""
    params, table = site.equation.params, inputs[0].owners
    shape = [1] * len(params["shape"])
    for axis, size in zip(params["broadcast_dimensions"], table.shape, strict=True):
        shape[axis] = size
    return [table.reshape(shape)]


def reshape(site: Site, inputs: list[Value]) -> list[Owners]:
    """Change the shape. Only axes that merge or split, and change, become full."""
    params, table = site.equation.params, inputs[0].owners
    before, after = site.equation.invars[0].aval.shape, params["new_sizes"]
    if 0 in before:
        return [free(len(after))]
    if (order := params["dimensions"]) is not None:
        table, before = table.transpose(order), [before[axis] for axis in order]
    full, shape = [], []
    for old, new in _runs(before, after):
        changes = any(table.shape[axis] > 1 for axis in old)
        full += [before[axis] if changes else 1 for axis in old]
        shape += [after[axis] if changes else 1 for axis in new]
    return [np.broadcast_to(table, full).reshape(shape)]


def _runs(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[range, range]]:
    """Pair the shortest runs of axes that hold equally many elements in two shapes."""
    ends = [0, 0]
    while ends != [len(before), len(after)]:
        starts, ends = (
            ends,
            [
                min(end + 1, len(shape))
                for end, shape in zip(ends, (before, after), strict=True)
            ],
        )
        old, new = before[starts[0] : ends[0]], after[starts[1] : ends[1]]
        while math.prod(old) != math.prod(new):
            ends[math.prod(old) > math.prod(new)] += 1
            old, new = before[starts[0] : ends[0]], after[starts[1] : ends[1]]
        yield range(starts[0], ends[0]), range(starts[1], ends[1])


def squeeze(site: Site, inputs: list[Value]) -> list[Owners]:
    """Remove axes of size 1."""
    return [inputs[0].owners.squeeze(tuple(site.equation.params["dimensions"]))]


def transpose(site: Site, inputs: list[Value]) -> list[Owners]:
    """Permute axes."""
    return [inputs[0].owners.transpose(site.equation.params["permutation"])]


def rev(site: Site, inputs: list[Value]) -> list[Owners]:
    """Reverse axes."""
    return [np.flip(inputs[0].owners, site.equation.params["dimensions"])]


def strided_slice(site: Site, inputs: list[Value]) -> list[Owners]:
    """Cut out a slice with strides.

    Axes along which nothing changes stay as they are.
    """
    params, table = site.equation.params, inputs[0].owners
    strides = params["strides"] or (1,) * table.ndim
    ranges = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    cuts = [
        slice(*cut) if size > 1 else slice(None)
        for cut, size in zip(ranges, table.shape, strict=True)
    ]
    return [table[tuple(cuts)]]


def concatenate(site: Site, inputs: list[Value]) -> list[Owners]:
    """Join arrays along an axis."""
    axis = int(site.equation.params["dimension"])
    return [_joined(site, inputs, axis)]


def _joined(site: Site, inputs: list[Value], axis: int) -> Owners:
    """Join tables along `axis`, each expanded to the length of its value."""
    tables = [value.owners for value in inputs]
    shape = list(np.broadcast_shapes(*(_without(t.shape, axis) for t in tables)))
    parts = []
    for table, variable in zip(tables, site.equation.invars, strict=True):
        shape[axis] = variable.aval.shape[axis]
        parts.append(np.broadcast_to(table, shape))
    return np.concatenate(parts, axis)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], 1, *shape[axis + 1 :])


def stack(site: Site, inputs: list[Value]) -> list[Owners]:
    """Join arrays along a new axis."""
    tables = np.broadcast_arrays(*(value.owners for value in inputs))
    return [np.stack(tables, site.equation.params["axis"])]


def tile(site: Site, inputs: list[Value]) -> list[Owners]:
    """Repeat an array along its axes."""
    table, repeats = inputs[0].owners, site.equation.params["reps"]
    pairs = zip(table.shape, repeats, strict=True)
    return [np.tile(table, [rep if size > 1 else 1 for size, rep in pairs])]


def split(site: Site, inputs: list[Value]) -> list[Owners]:
    """Cut an array into pieces along an axis."""
    params, table = site.equation.params, inputs[0].owners
    axis, sizes = params["axis"], params["sizes"]
    if table.shape[axis] == 1:
        return [table] * len(sizes)
    return np.split(table, np.cumsum(sizes)[:-1], axis)


def unstack(site: Site, inputs: list[Value]) -> list[Owners]:
    """Cut an array into its entries along an axis, without that axis (JAX 0.12)."""
    table, axis = inputs[0].owners, site.equation.params["axis"]
    pieces = len(site.equation.outvars)
    if table.shape[axis] == 1:
        return [table.squeeze(axis)] * pieces
    return [table.take(index, axis) for index in range(pieces)]


def pad(site: Site, inputs: list[Value]) -> list[Owners]:
    """Pad with the owners of the padding value. Negative padding cuts.

    A padded axis becomes full, even if one example owns all of it: the padding is not
    its own. The gradient of a slice is such a padding, and a sum joins it with others.
    """
    table, value = (v.owners for v in inputs)
    config = site.equation.params["padding_config"]
    shape = site.equation.invars[0].aval.shape
    for axis, (low, high, inside) in enumerate(config):
        if not (low or high or inside):
            continue
        size = shape[axis] + inside * max(shape[axis] - 1, 0)
        spread = np.full((*table.shape[:axis], size, *table.shape[axis + 1 :]), FREE)
        spread[(slice(None),) * axis + (slice(None, None, inside + 1),)] = table
        widths = [(0, 0)] * table.ndim
        widths[axis] = (max(low, 0), max(high, 0))
        spread = np.pad(spread, widths, constant_values=FREE)
        kept = slice(max(-low, 0), spread.shape[axis] - max(-high, 0))
        table = spread[(slice(None),) * axis + (kept,)].astype(np.int32)
    if is_free(value):
        return [table]
    return [combine(table, value.reshape((1,) * table.ndim), site.mixes)]
