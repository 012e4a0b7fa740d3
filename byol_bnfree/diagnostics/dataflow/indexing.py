"""Owner rules for reading and writing at indices.

A constant index moves owners as it moves elements, so we run the primitive itself on
the owner table. An index that is known only at run time may select any element along
the indexed axes. We therefore merge these axes first; all indices then give the same
owners.
"""

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np

from byol_bnfree.diagnostics.dataflow.owners import (
    FREE,
    Owners,
    combine,
    merge,
)
from byol_bnfree.diagnostics.dataflow.trace import Site, Value


def gather(site: Site, inputs: list[Value]) -> list[Owners]:
    """Slices of an operand, at one index per batch element of the output."""
    operand, indices = inputs
    params = dict(site.equation.params, fill_value=FREE)
    numbers = params["dimension_numbers"]
    table, index = operand.owners, indices.number()
    if index is None:
        shape, sizes = site.equation.invars[0].aval.shape, params["slice_sizes"]
        chosen = (a for a in numbers.start_index_map if sizes[a] < shape[a])
        table = merge(table, tuple(chosen), site.unknown)
        index = _zeros(site.equation.invars[1])
    moved = _bind(site, _full(table, site.equation.invars[0]), index, params)
    rank = moved.ndim
    batch = [axis for axis in range(rank) if axis not in numbers.offset_dims]
    return [combine(moved, _of_indices(indices, batch, rank, site), site.mixes)]


def scatter(site: Site, inputs: list[Value]) -> list[Owners]:
    """Updates that are written into an operand, or added to it."""
    operand, indices, updates = inputs
    params, index = site.equation.params, indices.number()
    numbers = params["dimension_numbers"]
    rank = updates.owners.ndim
    batch = [axis for axis in range(rank) if axis not in numbers.update_window_dims]
    written = combine(
        updates.owners, _of_indices(indices, batch, rank, site), site.mixes
    )
    where = index if index is not None else _zeros(site.equation.invars[1])
    variables = site.equation.invars
    table = _landed(site, _full(written, variables[2]), where, variables[0].aval.shape)
    if index is None:
        table = merge(table, tuple(numbers.scatter_dims_to_operand_dims), site.unknown)
    return [combine(operand.owners, table, site.mixes)]


def _landed(site: Site, updates: Owners, index, shape: tuple[int, ...]) -> Owners:
    """Find the owners of all updates that land on an element.

    They agree if the smallest and the largest owner are equal.
    """
    params = site.equation.params
    far = np.iinfo(np.int32).max

    def extreme(function, start: int, table: Owners) -> Owners:
        """Scatter a table with a minimum or a maximum; `start` fills the rest."""
        return np.asarray(
            function(
                jnp.full(shape, start, jnp.int32),
                index,
                jnp.asarray(table),
                params["dimension_numbers"],
                mode=params["mode"],
            )
        )

    low = extreme(jax.lax.scatter_min, far, np.where(updates == FREE, far, updates))
    high = extreme(jax.lax.scatter_max, FREE, np.where(updates < FREE, FREE, updates))
    one = np.where(low < FREE, low, high)  # a code is below every owner
    clash = (low >= 0) & (high >= 0) & (low != high)
    return np.where(clash, site.mixes(), one) if clash.any() else one


def dynamic_slice(site: Site, inputs: list[Value]) -> list[Owners]:
    """A part of an operand that begins at scalar indices."""
    operand, *starts = inputs
    numbers = [start.number() for start in starts]
    table, shape = operand.owners, site.equation.invars[0].aval.shape
    sizes = site.equation.params["slice_sizes"]
    for axis, (number, size) in enumerate(zip(numbers, sizes, strict=True)):
        if number is None and size < shape[axis]:
            table = merge(table, (axis,), site.unknown)
    cuts = [
        slice(None) if extent == 1 else _cut(number, size, whole)
        for extent, number, size, whole in zip(
            table.shape, numbers, sizes, shape, strict=True
        )
    ]
    return [_chosen_by(starts, table[tuple(cuts)], site)]


def _cut(start, size: int, whole: int) -> slice:
    """Return the slice that is read. JAX shifts slices back into the array."""
    begin = 0 if size == whole else min(max(int(start), 0), whole - size)
    return slice(begin, begin + size)


def dynamic_update_slice(site: Site, inputs: list[Value]) -> list[Owners]:
    """An operand in which a part, beginning at scalar indices, is replaced."""
    operand, update, *starts = inputs
    target, part = (variable.aval.shape for variable in site.equation.invars[:2])
    numbers = [start.number() for start in starts]
    table = operand.owners
    if any(n is None and p < t for n, p, t in zip(numbers, part, target, strict=True)):
        axes = tuple(
            a for a, (p, t) in enumerate(zip(part, target, strict=True)) if p < t
        )
        table = combine(table, merge(update.owners, axes, site.unknown), site.unknown)
    else:
        table = np.broadcast_to(table, target).copy()
        cuts = map(_cut, numbers, part, target)
        table[tuple(cuts)] = np.broadcast_to(update.owners, part)
    return [_chosen_by(starts, table, site)]


def _chosen_by(starts: list[Value], table: Owners, site: Site) -> Owners:
    """Combine the table with the owners of the scalars that chose it."""
    scalars = (start.owners.reshape((1,) * table.ndim) for start in starts)
    return reduce(lambda a, b: combine(a, b, site.mixes), scalars, table)


def _of_indices(indices: Value, batch: list[int], rank: int, site: Site) -> Owners:
    """Lay the owners of the indices along the axes `batch` of an array of `rank`."""
    table = indices.owners
    table = merge(table, (table.ndim - 1,), site.mixes)[..., 0]
    shape = [1] * rank
    for axis, size in zip(batch, table.shape, strict=True):
        shape[axis] = size
    return table.reshape(shape)


def _full(table: Owners, variable) -> Owners:
    return np.broadcast_to(table, variable.aval.shape)


def _zeros(variable) -> jax.Array:
    return jnp.zeros(variable.aval.shape, variable.aval.dtype)


def _bind(site: Site, table: Owners, index, params) -> Owners:
    return np.asarray(site.equation.primitive.bind(jnp.asarray(table), index, **params))
