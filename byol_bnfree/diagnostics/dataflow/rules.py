"""What each primitive does to the owners of its elements.

A rule takes the site and the inputs and returns one owner table per output. A
primitive without a rule cannot be judged; a rule here must hold for all parameters
of its primitive, or say `site.unknown()`.
"""

from collections.abc import Callable
from functools import reduce

import numpy as np

from byol_bnfree.diagnostics.dataflow.indexing import (
    dynamic_slice,
    dynamic_update_slice,
    gather,
    scatter,
)
from byol_bnfree.diagnostics.dataflow.owners import (
    FREE,
    Owners,
    combine,
    is_free,
    merge,
)
from byol_bnfree.diagnostics.dataflow.trace import Site, Value

Rule = Callable[[Site, list[Value]], list[Owners]]

_ELEMENTWISE = """
abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt
ceil clamp clz complex conj convert_element_type copy copy_p cos cosh digamma div eq
eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igamma_grad_a igammac imag
integer_pow is_finite le le_to lgamma log log1p logistic lt lt_to max min mul name ne
neg nextafter not or polygamma population_count pow random_fold_in random_seed real
reduce_precision regularized_incomplete_beta rem round rsqrt select_n shift_left
shift_right_arithmetic shift_right_logical sharding_constraint sign sin sinh sqrt square
stop_gradient sub tan tanh threefry2x32 xor zeta
"""
_REDUCTIONS = """
reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax
argmin
"""
_CUMULATIVE = "cumsum cumprod cummax cummin cumlogsumexp"
_WINDOWS = """
reduce_window_sum reduce_window_max reduce_window_min select_and_scatter_add
select_and_gather_add
"""
_SCATTERS = "scatter scatter-add scatter-sub scatter-mul scatter-min scatter-max"
_MATRIX = "cholesky eigh lu qr svd triangular_solve eig"


def _elementwise(site: Site, inputs: list[Value]) -> list[Owners]:
    rank = site.equation.outvars[0].aval.ndim
    tables = [value.owners for value in inputs]
    tables = [t if t.ndim == rank else t.reshape((1,) * rank) for t in tables]
    table = reduce(lambda a, b: combine(a, b, site.mixes), tables)
    return [table] * len(site.equation.outvars)


def _pass_through(site: Site, inputs: list[Value]) -> list[Owners]:
    return [value.owners for value in inputs]


def _last_axis(site: Site, inputs: list[Value]) -> list[Owners]:
    """Several numbers become one of a wider type, or one becomes several."""
    table, rank = inputs[0].owners, site.equation.outvars[0].aval.ndim
    if rank < table.ndim:
        return [merge(table, (table.ndim - 1,), site.mixes)[..., 0]]
    return [table if rank == table.ndim else table[..., None]]


def _key_to_numbers(site: Site, inputs: list[Value]) -> list[Owners]:
    """random_bits, random_split, random_unwrap: a key makes an array of its own."""
    table, rank = inputs[0].owners, site.equation.outvars[0].aval.ndim
    return [table.reshape(table.shape + (1,) * (rank - table.ndim))]


def _broadcast_in_dim(site: Site, inputs: list[Value]) -> list[Owners]:
    params, table = site.equation.params, inputs[0].owners
    shape = [1] * len(params["shape"])
    for axis, size in zip(params["broadcast_dimensions"], table.shape, strict=True):
        shape[axis] = size
    return [table.reshape(shape)]


def _reshape(site: Site, inputs: list[Value]) -> list[Owners]:
    params = site.equation.params
    full = np.broadcast_to(inputs[0].owners, site.equation.invars[0].aval.shape)
    if params["dimensions"] is not None:
        full = full.transpose(params["dimensions"])
    return [full.reshape(params["new_sizes"])]


def _squeeze(site: Site, inputs: list[Value]) -> list[Owners]:
    return [inputs[0].owners.squeeze(tuple(site.equation.params["dimensions"]))]


def _transpose(site: Site, inputs: list[Value]) -> list[Owners]:
    return [inputs[0].owners.transpose(site.equation.params["permutation"])]


def _rev(site: Site, inputs: list[Value]) -> list[Owners]:
    return [np.flip(inputs[0].owners, site.equation.params["dimensions"])]


def _slice(site: Site, inputs: list[Value]) -> list[Owners]:
    params, table = site.equation.params, inputs[0].owners
    strides = params["strides"] or (1,) * table.ndim
    ranges = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    cuts = [
        slice(*cut) if size > 1 else slice(None)
        for cut, size in zip(ranges, table.shape, strict=True)
    ]
    return [table[tuple(cuts)]]


def _concatenate(site: Site, inputs: list[Value]) -> list[Owners]:
    axis = int(site.equation.params["dimension"])
    return [_joined(site, inputs, axis)]


def _joined(site: Site, inputs: list[Value], axis: int) -> Owners:
    """The tables one after another, as long along `axis` as their values are."""
    tables = [value.owners for value in inputs]
    shape = list(np.broadcast_shapes(*(_without(t.shape, axis) for t in tables)))
    parts = []
    for table, variable in zip(tables, site.equation.invars, strict=True):
        shape[axis] = variable.aval.shape[axis]
        parts.append(np.broadcast_to(table, shape))
    return np.concatenate(parts, axis)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], 1, *shape[axis + 1 :])


def _stack(site: Site, inputs: list[Value]) -> list[Owners]:
    tables = np.broadcast_arrays(*(value.owners for value in inputs))
    return [np.stack(tables, site.equation.params["axis"])]


def _tile(site: Site, inputs: list[Value]) -> list[Owners]:
    table, repeats = inputs[0].owners, site.equation.params["reps"]
    pairs = zip(table.shape, repeats, strict=True)
    return [np.tile(table, [rep if size > 1 else 1 for size, rep in pairs])]


def _split(site: Site, inputs: list[Value]) -> list[Owners]:
    params, table = site.equation.params, inputs[0].owners
    axis, sizes = params["axis"], params["sizes"]
    if table.shape[axis] == 1:
        return [table] * len(sizes)
    return np.split(table, np.cumsum(sizes)[:-1], axis)


def _pad(site: Site, inputs: list[Value]) -> list[Owners]:
    """With the padding value's owners wherever it may stand."""
    table, value = (v.owners for v in inputs)
    config = site.equation.params["padding_config"]
    shape = site.equation.invars[0].aval.shape
    for axis, (low, high, inside) in enumerate(config):
        if table.shape[axis] == 1:
            continue
        size = shape[axis] + inside * (shape[axis] - 1)
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


def _reduction(site: Site, inputs: list[Value]) -> list[Owners]:
    axes = tuple(site.equation.params["axes"])
    return [merge(inputs[0].owners, axes, site.mixes).squeeze(axes)]


def _cumulative(site: Site, inputs: list[Value]) -> list[Owners]:
    return [merge(inputs[0].owners, (site.equation.params["axis"],), site.mixes)]


def _sort(site: Site, inputs: list[Value]) -> list[Owners]:
    """All operands are moved by comparing along one axis."""
    table = reduce(
        lambda a, b: combine(a, b, site.mixes), (value.owners for value in inputs)
    )
    table = merge(table, (site.equation.params["dimension"],), site.mixes)
    return [table] * len(inputs)


def _top_k(site: Site, inputs: list[Value]) -> list[Owners]:
    table = inputs[0].owners
    axis = site.equation.params.get("axis", -1) % table.ndim
    return [merge(table, (axis,), site.mixes)] * 2


def _windows(site: Site, inputs: list[Value]) -> list[Owners]:
    """Along axes on which a window is more than its own element all are joined."""
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
    axes = tuple(
        axis
        for axis, (window, stride, pad, base, dilation, zero) in enumerate(trivial)
        if (window, stride, tuple(pad), base, dilation) != (1, 1, zero, 1, 1)
    )
    tables = [merge(value.owners, axes, site.mixes) for value in inputs]
    table = reduce(lambda a, b: combine(a, b, site.mixes), tables)
    return [table] * len(site.equation.outvars)


def _matrix(site: Site, inputs: list[Value]) -> list[Owners]:
    """Linear algebra on the last two axes, for all leading ones alike."""
    tables = [
        merge(value.owners, (value.owners.ndim - 2, value.owners.ndim - 1), site.mixes)
        for value in inputs
    ]
    table = reduce(lambda a, b: combine(a, b, site.mixes), tables)[..., 0, 0]
    ranks = (variable.aval.ndim for variable in site.equation.outvars)
    return [table.reshape(table.shape + (1,) * (rank - table.ndim)) for rank in ranks]


def _fft(site: Site, inputs: list[Value]) -> list[Owners]:
    table, count = inputs[0].owners, len(site.equation.params["fft_lengths"])
    return [merge(table, tuple(range(table.ndim - count, table.ndim)), site.mixes)]


def _dot_general(site: Site, inputs: list[Value]) -> list[Owners]:
    """Contracted axes are joined; the result has batch, left and right axes."""
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


def _conv(site: Site, inputs: list[Value]) -> list[Owners]:
    """Joins space and the features of a group; examples stay apart along the batch."""
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
    # Output feature o belongs to group o // (out / groups), of whichever kind.
    left = left.reshape(batches, batch // batches, groups, features // groups)
    left = merge(left, (3,), site.mixes)[..., 0]
    left = left.transpose(1, 0, 2).reshape(batch // batches, batches * groups)
    left = left.repeat(len(right) // (batches * groups), axis=1)
    table = combine(left, right[None, :], site.mixes)
    table = table.reshape(table.shape + (1,) * len(space))
    return [table.transpose(np.argsort(numbers.out_spec))]


def _rules(names: str, rule: Rule) -> dict[str, Rule]:
    return {name: rule for name in names.split()}


RULES: dict[str, Rule] = {
    **_rules(_ELEMENTWISE, _elementwise),
    **_rules("optimization_barrier device_put", _pass_through),
    **_rules("random_bits random_split random_unwrap", _key_to_numbers),
    **_rules(_REDUCTIONS, _reduction),
    **_rules(_CUMULATIVE, _cumulative),
    **_rules(_WINDOWS, _windows),
    **_rules(_MATRIX, _matrix),
    **_rules(
        "scatter scatter-add scatter-sub scatter-mul scatter-min scatter-max", scatter
    ),
    "bitcast_convert_type": _last_axis,
    "random_wrap": _last_axis,
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "rev": _rev,
    "slice": _slice,
    "concatenate": _concatenate,
    "stack": _stack,
    "split": _split,
    "tile": _tile,
    "pad": _pad,
    "sort": _sort,
    "top_k": _top_k,
    "fft": _fft,
    "dot_general": _dot_general,
    "conv_general_dilated": _conv,
    "gather": gather,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
}
