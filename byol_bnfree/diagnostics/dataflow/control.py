"""Follows the examples of a batch through branches and loops."""

from collections.abc import Callable
from functools import reduce

import numpy as np

from byol_bnfree.diagnostics.dataflow.jax_versions import scan_operands
from byol_bnfree.diagnostics.dataflow.owners import Owners, combine, free, smallest
from byol_bnfree.diagnostics.dataflow.trace import Site, Value

Run = Callable[..., list[Value]]
"""Follows a program from its inputs to its outputs; see `interpret`."""


def _cond(site: Site, inputs: list[Value], run: Run) -> list[Owners]:
    """Join all branches that may run. The result also depends on the index."""
    index, *operands = inputs
    may_run, known = site.equation.params["branches"], index.number()
    if known is not None:
        may_run = [may_run[np.clip(int(known), 0, len(may_run) - 1)]]
    branches = [
        [v.owners for v in run(branch, operands, site.trace, site)]
        for branch in may_run
    ]
    results = [
        reduce(lambda a, b: combine(a, b, site.mixes), tables)
        for tables in zip(*branches, strict=True)
    ]
    return [_decided_by(index.owners, table, site) for table in results]


def _decided_by(predicate: Owners, table: Owners, site: Site) -> Owners:
    """Combine a value with the predicate that chose it: a scalar, or one per row.

    Under `vmap` a loop has one predicate per example, [b]. An example whose predicate
    is False keeps its value while the others go on.
    """
    trailing = (1,) * (table.ndim - predicate.ndim)
    return combine(table, predicate.reshape(predicate.shape + trailing), site.mixes)


def _while(site: Site, inputs: list[Value], run: Run) -> list[Owners]:
    """Join the turns until nothing changes, because their number is unknown."""
    params = site.equation.params
    ends = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    cond_consts, body_consts = inputs[: ends[0]], inputs[ends[0] : ends[1]]
    carry = [Value(value.owners) for value in inputs[ends[1] :]]
    while True:
        body = run(params["body_jaxpr"], body_consts + carry, site.trace, site)
        (goes_on,) = run(params["cond_jaxpr"], cond_consts + carry, site.trace, site)
        after = [
            _decided_by(goes_on.owners, combine(a.owners, b.owners, site.mixes), site)
            for a, b in zip(carry, body, strict=True)
        ]
        if all(map(_same, after, carry)):
            return after
        carry = [Value(smallest(table)) for table in after]


def _same(table: Owners, value: Value) -> bool:
    return np.array_equal(*np.broadcast_arrays(table, value.owners))


def _scan(site: Site, inputs: list[Value], run: Run) -> list[Owners]:
    """Follow turn by turn, until further turns would give the same result."""
    params = site.equation.params
    consts, carry, rows = scan_operands(params, inputs)
    carry = [Value(value.owners) for value in carry]
    length, stacked = params["length"], []
    # With equal rows, a turn that changes nothing will not change anything later.
    alike = all(value.owners.shape[0] == 1 for value in rows)
    for turn in range(length):
        index = length - 1 - turn if params["reverse"] else turn
        row = [Value(_row(value.owners, index)) for value in rows]
        outputs = run(params["jaxpr"], consts + carry + row, site.trace, site)
        after = [Value(value.owners) for value in outputs[: len(carry)]]
        stacked.append([value.owners for value in outputs[len(carry) :]])
        settled = all(_same(a.owners, b) for a, b in zip(after, carry, strict=True))
        carry = after
        if alike and settled:
            stacked += [stacked[-1]] * (length - 1 - turn)
            break
    if params["reverse"]:
        stacked.reverse()
    # No turn is taken. The carry is the start, and the rows depend on nothing.
    if not stacked:
        ranks = [v.aval.ndim for v in site.equation.outvars[len(carry) :]]
        return [value.owners for value in carry] + [free(rank) for rank in ranks]
    columns = zip(*stacked, strict=True)
    return [value.owners for value in carry] + [_stack(list(c)) for c in columns]


def _row(table: Owners, index: int) -> Owners:
    # A row without axes would be a NumPy scalar, and tables are arrays.
    return np.asarray(table[index if table.shape[0] > 1 else 0])


def _stack(tables: list[Owners]) -> Owners:
    return np.stack(np.broadcast_arrays(*tables))


CONTROL = {"cond": _cond, "while": _while, "scan": _scan}
