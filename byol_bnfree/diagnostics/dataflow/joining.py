"""Rules for primitives that compute one element from many: their owners are merged."""

from functools import reduce

import numpy as np

from byol_bnfree.diagnostics.dataflow.owners import Owners, combine, merge
from byol_bnfree.diagnostics.dataflow.trace import Site, Value


def reduction(site: Site, inputs: list[Value]) -> list[Owners]:
    """Sum, maximum and the like over `axes`."""
    axes = tuple(site.equation.params["axes"])
    return [merge(inputs[0].owners, axes, site.mixes).squeeze(axes)]


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
    """The k largest elements along one axis, and their indices."""
    table = inputs[0].owners
    axis = site.equation.params.get("axis", -1) % table.ndim
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
    """Merge space and the features of a group. Examples stay apart along the batch."""
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
    left = merge(left, space, site.mixes)[(...,) + (0,) * len(space)]
    left = np.broadcast_to(left, (batch, features))
    right = merge(right, (1, *space), site.mixes).reshape(-1)
    right = np.broadcast_to(right, shapes[1][numbers.rhs_spec[0]])
    groups, batches = params["feature_group_count"], params["batch_group_count"]
    # Output feature o belongs to group o // (out / groups), for both kinds of groups.
    left = left.reshape(batches, batch // batches, groups, features // groups)
    left = merge(left, (3,), site.mixes)[..., 0]
    left = left.transpose(1, 0, 2).reshape(batch // batches, batches * groups)
    left = left.repeat(len(right) // (batches * groups), axis=1)
    table = combine(left, right[None, :], site.mixes)
    table = table.reshape(table.shape + (1,) * len(space))
    return [table.transpose(np.argsort(numbers.out_spec))]
