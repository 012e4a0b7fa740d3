"""Rules for primitives that compute one element from many: their owners are merged."""

from functools import reduce
from typing import Any

import numpy as np

from byol_bnfree.diagnostics.dataflow.owners import Owners, combine, filled, merge
from byol_bnfree.diagnostics.dataflow.trace import Site, Value


def reduction(site: Site, inputs: list[Value]) -> list[Owners]:
    """Sum, maximum and the like over `axes`."""
    axes = tuple(site.equation.params["axes"])
    return [merge(inputs[0].owners, axes, site.mixes).squeeze(axes)]


def custom_reduction(site: Site, inputs: list[Value]) -> list[Owners]:
    """Reduce several arrays together over `dimensions`, from a number for each."""
    axes, half = tuple(site.equation.params["dimensions"]), len(inputs) // 2
    tables = [merge(v.owners, axes, site.mixes).squeeze(axes) for v in inputs[:half]]
    return _begun(site, tables, inputs[half:])


def custom_windows(site: Site, inputs: list[Value]) -> list[Owners]:
    """Reduce the windows of several arrays together, from a number for each."""
    half = len(inputs) // 2
    return _begun(site, windows(site, inputs[:half]), inputs[half:])


def _begun(site: Site, tables: list[Owners], starts: list[Value]) -> list[Owners]:
    """Combine all tables, and the scalars with which a custom reduction begins."""
    rank = tables[0].ndim
    tables = tables + [value.owners.reshape((1,) * rank) for value in starts]
    table = reduce(lambda a, b: combine(a, b, site.mixes), tables)
    return [table] * len(site.equation.outvars)


def collective(site: Site, inputs: list[Value]) -> list[Owners]:
    """Sum, maximum or minimum over axes of each array: numbers after `vmap`.

    An axis with a name belongs to devices, and groups are parts of it.
    """
    params = site.equation.params
    named = any(not isinstance(axis, int) for axis in params["axes"])
    if named or params.get("axis_index_groups") is not None:
        ranks = (variable.aval.ndim for variable in site.equation.outvars)
        return [filled(site.unknown(), rank) for rank in ranks]
    axes = tuple(params["axes"])
    return [merge(value.owners, axes, site.mixes).squeeze(axes) for value in inputs]


def together(site: Site, inputs: list[Value]) -> list[Owners]:
    """Compute all elements in one loop, which ends when all of them have converged.

    The elements that converge first then change by rounding.
    """
    tables = [
        merge(value.owners, tuple(range(value.owners.ndim)), site.mixes)
        for value in inputs
    ]
    return [reduce(lambda a, b: combine(a, b, site.mixes), tables)]


def cumulative(site: Site, inputs: list[Value]) -> list[Owners]:
    """Running sums and the like along one axis."""
    return [merge(inputs[0].owners, (site.equation.params["axis"],), site.mixes)]


def sort(site: Site, inputs: list[Value]) -> list[Owners]:
    """Comparisons along one axis decide how all operands move."""
    table = reduce(
        lambda a, b: combine(a, b, site.mixes), (value.owners for value in inputs)
    )
    table = merge(table, (site.equation.params["dimension"],), site.mixes)
    return [table] * len(inputs)


def top_k(site: Site, inputs: list[Value]) -> list[Owners]:
    """The k largest elements along one axis, or nearly so, and their indices."""
    table, params = inputs[0].owners, site.equation.params
    axis = params.get("reduction_dimension", params.get("axis", -1)) % table.ndim
    return [merge(table, (axis,), site.mixes)] * 2


def windows(site: Site, inputs: list[Value]) -> list[Owners]:
    """Merge the axes on which a window covers more than its own element."""
    params, rank = site.equation.params, inputs[0].owners.ndim
    ones, none = (1,) * rank, ((0, 0),) * rank
    trivial = zip(
        params["window_dimensions"],
        params["window_strides"],
        params["padding"],
        params.get("base_dilation", ones),
        params.get("window_dilation", ones),
        none,
        strict=True,
    )
    # A window of one element leaves an axis as it is.
    axes = tuple(
        axis
        for axis, (window, stride, pad, base, dilation, zero) in enumerate(trivial)
        if (window, stride, tuple(pad), base, dilation) != (1, 1, zero, 1, 1)
    )
    tables = [merge(value.owners, axes, site.mixes) for value in inputs]
    table = reduce(lambda a, b: combine(a, b, site.mixes), tables)
    return [table] * len(site.equation.outvars)


def matrix(site: Site, inputs: list[Value]) -> list[Owners]:
    """Linear algebra on the last two axes, separately for all leading axes."""
    tables = [
        merge(value.owners, (value.owners.ndim - 2, value.owners.ndim - 1), site.mixes)
        for value in inputs
    ]
    table = reduce(lambda a, b: combine(a, b, site.mixes), tables)[..., 0, 0]
    ranks = (variable.aval.ndim for variable in site.equation.outvars)
    return [table.reshape(table.shape + (1,) * (rank - table.ndim)) for rank in ranks]


def fft(site: Site, inputs: list[Value]) -> list[Owners]:
    """Fourier transform along the last axes."""
    table, count = inputs[0].owners, len(site.equation.params["fft_lengths"])
    return [merge(table, tuple(range(table.ndim - count, table.ndim)), site.mixes)]


def dot_general(site: Site, inputs: list[Value]) -> list[Owners]:
    """Merge the contracted axes. The result has batch, left and right axes."""
    contracted, batched = site.equation.params["dimension_numbers"]
    parts = []
    for value, contract, batch in zip(inputs, contracted, batched, strict=True):
        table = merge(value.owners, tuple(contract), site.mixes)
        free_axes = [a for a in range(table.ndim) if a not in (*contract, *batch)]
        table = table.transpose(*batch, *free_axes, *contract)
        parts.append(table[(...,) + (0,) * len(contract)])
    left, right = parts
    shared = len(batched[0])
    left = left.reshape(left.shape + (1,) * (right.ndim - shared))
    between = (1,) * (left.ndim - right.ndim)
    right = right.reshape(right.shape[:shared] + between + right.shape[shared:])
    return [combine(left, right, site.mixes)]


def conv(site: Site, inputs: list[Value]) -> list[Owners]:
    """Merge space and the features of a group. Examples stay apart along the batch.

    They also stay apart along an axis of space whose kernel has one element, unless
    strides, padding, dilation or groups of the batch change the axis.
    """
    params = site.equation.params
    numbers = params["dimension_numbers"]
    (left, right), shapes = (
        [value.owners for value in inputs],
        [variable.aval.shape for variable in site.equation.invars],
    )
    left = left.transpose(numbers.lhs_spec)  # [batch features space...]
    right = right.transpose(numbers.rhs_spec)  # [out in space...]
    space = tuple(range(2, left.ndim))
    batch, features = (shapes[0][axis] for axis in numbers.lhs_spec[:2])
    groups, batches = params["feature_group_count"], params["batch_group_count"]
    kernel = [shapes[1][axis] for axis in numbers.rhs_spec[2:]]
    moved = tuple(a for a in space if batches > 1 or not _stays(params, kernel, a - 2))
    left = merge(left, moved, site.mixes)
    if groups == 1:  # before features are copied
        left, features = merge(left, (1,), site.mixes), 1
    extent = left.shape[2:]
    left = np.broadcast_to(left, (batch, features, *extent))
    right = merge(right, (1, *space), site.mixes).reshape(-1)
    # Output feature o belongs to group o // (out / groups), for both kinds of groups.
    left = left.reshape(batches, batch // batches, groups, features // groups, *extent)
    left = np.moveaxis(merge(left, (3,), site.mixes).squeeze(3), 0, 1)
    left = left.reshape(batch // batches, batches * groups, *extent)
    if batches * groups > 1:
        left = left.repeat(shapes[1][numbers.rhs_spec[0]] // (batches * groups), axis=1)
    table = combine(left, right.reshape(-1, *(1,) * len(space)), site.mixes)
    return [table.transpose(np.argsort(numbers.out_spec))]


def _stays(params: dict[str, Any], kernel: list[int], axis: int) -> bool:
    """Return True if a convolution leaves each element of an axis at its place."""
    changes = ("window_strides", "lhs_dilation", "rhs_dilation")
    steps = (kernel[axis], *(params[name][axis] for name in changes))
    return steps == (1, 1, 1, 1) and tuple(params["padding"][axis]) == (0, 0)
