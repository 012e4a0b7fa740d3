"""The effect of each primitive on the owners of its elements.

A rule takes the site and the inputs, and returns one owner table per output. It must
hold for all parameters of its primitive, or return `site.unknown()`. A primitive
without a rule cannot be judged. Among these are `shard_map` and collectives over its
axes, such as `unreduced_psum`. Under a `vmap` whose axis has a name, `psum`, `pmax` and
`pmin` reduce an axis of the array. Other collectives become operations on arrays there.
"""

from collections.abc import Callable
from functools import reduce

import numpy as np

from byol_bnfree.diagnostics.dataflow import drawing, joining, moving
from byol_bnfree.diagnostics.dataflow.indexing import (
    dynamic_slice,
    dynamic_update_slice,
    gather,
    scatter,
)
from byol_bnfree.diagnostics.dataflow.owners import (
    Owners,
    combine,
    merge,
    smallest,
)
from byol_bnfree.diagnostics.dataflow.trace import Site, Value

Rule = Callable[[Site, list[Value]], list[Owners]]

_ELEMENTWISE = """
abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt
ceil clamp clz complex conj convert_element_type copy copy_p cos cosh digamma div eq
eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igamma_grad_a igammac imag
integer_pow is_finite le le_to lgamma log log1p log2 logistic lt lt_to max min mul mulhi
name ne neg nextafter not one_minus_square or polygamma polynomial population_count pow
random_gamma_grad real reduce_precision rem round rsqrt sharding_constraint
shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square
stop_gradient sub tan tanh threefry2x32 xor zeta
"""
_REDUCTIONS = """
reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax
argmin
"""
_COLLECTIVES = "psum pmax pmin"
_CUMULATIVE = "cumsum cumprod cummax cummin cumlogsumexp"
_WINDOWS = """
reduce_window_sum reduce_window_max reduce_window_min select_and_scatter_add
select_and_gather_add
"""
_SCATTERS = "scatter scatter-add scatter-sub scatter-mul scatter-min scatter-max"
_COPIES = """
device_put layout_constraint optimization_barrier pvary random_clone relayout reshard
"""
_MATRIX = """
cholesky eigh lu qr svd triangular_solve eig schur hessenberg tridiagonal
"""


def _elementwise(site: Site, inputs: list[Value]) -> list[Owners]:
    """Combine the owners of all inputs, element by element."""
    rank = site.equation.outvars[0].aval.ndim
    tables = [value.owners for value in inputs]
    tables = [t if t.ndim == rank else t.reshape((1,) * rank) for t in tables]
    table = reduce(lambda a, b: combine(a, b, site.mixes), tables)
    return [table] * len(site.equation.outvars)


def _select(site: Site, inputs: list[Value]) -> list[Owners]:
    """Take each element from one of the cases, by a mask."""
    which, *cases = inputs
    mask = which.number()
    if mask is None or mask.size == 0 or len(cases) > 2:
        return _elementwise(site, inputs)  # any case may be taken, as in a ReLU
    mask = smallest(np.asarray(mask).astype(np.int32))
    return [np.where(mask, cases[-1].owners, cases[0].owners)]


def _pass_through(site: Site, inputs: list[Value]) -> list[Owners]:
    """Keep the owners of each input."""
    return [value.owners for value in inputs]


def _second(site: Site, inputs: list[Value]) -> list[Owners]:
    """Return the second input, after the first is computed."""
    return [inputs[1].owners]


def _last_axis(site: Site, inputs: list[Value]) -> list[Owners]:
    """Combine numbers of the last axis into one of a wider type, or split one."""
    table, rank = inputs[0].owners, site.equation.outvars[0].aval.ndim
    if rank < table.ndim:
        return [merge(table, (table.ndim - 1,), site.mixes)[..., 0]]
    return [table if rank == table.ndim else table[..., None]]


def _rules(names: str, rule: Rule) -> dict[str, Rule]:
    return {name: rule for name in names.split()}


RULES: dict[str, Rule] = {
    **_rules(_ELEMENTWISE, _elementwise),
    "select_n": _select,
    **_rules(_COPIES, _pass_through),
    **_rules("random_bits random_split", drawing.of_keys),
    **_rules(_REDUCTIONS, joining.reduction),
    **_rules(_COLLECTIVES, joining.collective),
    **_rules(_CUMULATIVE, joining.cumulative),
    **_rules(_WINDOWS, joining.windows),
    **_rules(_MATRIX, joining.matrix),
    **_rules(_SCATTERS, scatter),
    "bitcast_convert_type": _last_axis,
    "random_wrap": _last_axis,
    "random_unwrap": _last_axis,
    "random_seed": drawing.seed,
    "random_fold_in": drawing.fold_in,
    "random_gamma": drawing.gamma,
    "tie": _second,
    "broadcast_in_dim": moving.broadcast_in_dim,
    "reshape": moving.reshape,
    "squeeze": moving.squeeze,
    "transpose": moving.transpose,
    "rev": moving.rev,
    "slice": moving.strided_slice,
    "concatenate": moving.concatenate,
    "stack": moving.stack,
    "split": moving.split,
    "unstack": moving.unstack,
    "tile": moving.tile,
    "pad": moving.pad,
    "sort": joining.sort,
    "reduce": joining.custom_reduction,
    "reduce_window": joining.custom_windows,
    "regularized_incomplete_beta": joining.together,
    "top_k": joining.top_k,
    "approx_top_k": joining.top_k,
    "fft": joining.fft,
    "dot_general": joining.dot_general,
    "conv_general_dilated": joining.conv,
    "gather": gather,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
}
