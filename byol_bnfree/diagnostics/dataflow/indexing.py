"""Owner rules for reading and writing at indices.

A constant index moves owners as it moves elements, so we run the primitive itself on
the owner table. An index that is known only at run time may select any element along
its axis. We therefore merge this axis; all such indices then give the same owners. Of
an index with several numbers some may be known, as in `x[arange(b), x.argmax(1)]`.
"""

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np

from byol_bnfree.diagnostics.dataflow.owners import (
    FREE,
    Blame,
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
    index, unknown = _known(indices, site.equation.invars[1])
    shape, sizes = site.equation.invars[0].aval.shape, params["slice_sizes"]
    axes = (numbers.start_index_map[column] for column in unknown)
    chosen = tuple(axis for axis in axes if sizes[axis] < shape[axis])
    table = merge(operand.owners, chosen, site.unknown)
    moved = _bind(site, _full(table, site.equation.invars[0]), index, params)
    rank = moved.ndim
    batch = [axis for axis in range(rank) if axis not in numbers.offset_dims]
    return [combine(moved, _of_indices(indices, batch, rank, site), site.mixes)]


def scatter(site: Site, inputs: list[Value]) -> list[Owners]:
    """Updates that are written into an operand, or added to it."""
    operand, indices, updates = inputs
    numbers = site.equation.params["dimension_numbers"]
    index, unknown = _known(indices, site.equation.invars[1])
    # Rows that meet under an unknown index may be apart at run time.
    blame = site.unknown if unknown else site.mixes
    rank = updates.owners.ndim
    batch = [axis for axis in range(rank) if axis not in numbers.update_window_dims]
    written = combine(
        updates.owners, _of_indices(indices, batch, rank, site), site.mixes
    )
    target, _, source = site.equation.invars
    table = _landed(site, _full(written, source), index, target.aval.shape, blame)
    axes = tuple(numbers.scatter_dims_to_operand_dims[column] for column in unknown)
    table = merge(table, axes, site.unknown)
    return [combine(operand.owners, table, site.mixes)]


def _landed(
    site: Site, updates: Owners, index, shape: tuple[int, ...], blame: Blame
) -> Owners:
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
    return np.where(clash, blame(), one) if clash.any() else one


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


def _known(indices: Value, variable) -> tuple[jax.Array, list[int]]:
    """Return indices [... k] with zeros in place of unknown columns, and these."""
    number, shape = indices.number(), variable.aval.shape
    if number is not None:
        return jnp.asarray(number), []
    columns = indices.columns() or [None] * shape[-1]
    filled = np.zeros(shape, variable.aval.dtype)
    for number, column in enumerate(columns):
        if column is not None:
            filled[..., number] = column
    missing = [number for number, column in enumerate(columns) if column is None]
    return jnp.asarray(filled), missing


def _bind(site: Site, table: Owners, index, params) -> Owners:
    return np.asarray(site.equation.primitive.bind(jnp.asarray(table), index, **params))
