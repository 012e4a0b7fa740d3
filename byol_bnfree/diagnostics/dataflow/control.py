"""Follows the examples of a batch through branches and loops."""

from collections.abc import Callable
from functools import cache, partial, reduce
from typing import Any

import jax
import numpy as np

from byol_bnfree.diagnostics.dataflow.jax_versions import scan_operands
from byol_bnfree.diagnostics.dataflow.owners import Owners, combine, free, smallest
from byol_bnfree.diagnostics.dataflow.trace import Site, Value

MOST_TURNS = 1024
"""A loop of more turns is not followed with their numbers."""
FIRST_TURNS = 8
"""Turns of a longer loop that are followed with their numbers, to find what mixes."""
Run = Callable[..., list[Value]]
"""Follows a program from its inputs to its outputs; see `interpret`."""


def _cond(site: Site, inputs: list[Value], run: Run) -> list[Value]:
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
    return [Value(_decided_by(index.owners, table, site)) for table in results]


def _decided_by(predicate: Owners, table: Owners, site: Site) -> Owners:
    """Combine a value with the predicate that chose it: a scalar, or one per row.

    Under `vmap` a loop has one predicate per example, [b]. An example whose predicate
    is False keeps its value while the others go on.
    """
    trailing = (1,) * (table.ndim - predicate.ndim)
    return combine(table, predicate.reshape(predicate.shape + trailing), site.mixes)


def _while(site: Site, inputs: list[Value], run: Run) -> list[Value]:
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
            return list(map(Value, after))
        carry = [Value(smallest(table)) for table in after]


def _same(table: Owners, value: Value) -> bool:
    return np.array_equal(*np.broadcast_arrays(table, value.owners))


def _scan(site: Site, inputs: list[Value], run: Run) -> list[Value]:
    """Follow a loop without its numbers, and with them only if that finds a place.

    Numbers, such as the index of a turn, make each turn another one.
    """
    few = site.equation.params["length"] <= MOST_TURNS
    draft = site.trace.copy()

    @cache
    def in_numbers() -> list[Value]:
        return _turns(site._replace(trace=draft.copy()), inputs, run, numbered=True)

    def number(index: int) -> Any:
        return in_numbers()[index].number() if few else None

    found = _turns(site._replace(trace=draft), inputs, run, numbered=False)
    new = len(draft.places) > len(site.trace.places)
    if new and _has_numbers(site, inputs):
        if few:
            return _turns(site, inputs, run, numbered=True)
        # Without numbers, rows that a turn's number keeps apart may seem to meet.
        begun = site.trace.copy()
        _turns(site._replace(trace=begun), inputs, run, numbered=True, most=FIRST_TURNS)
        draft.doubt(len(site.trace.places), begun)
    site.trace.adopt(draft)
    return [v._replace(number=partial(number, k)) for k, v in enumerate(found)]


def _has_numbers(site: Site, inputs: list[Value]) -> bool:
    """Return True if a loop begins from a known number, or reads known rows."""
    consts, *_ = scan_operands(site.equation.params, inputs)
    pairs = list(zip(inputs, site.equation.invars, strict=True))[len(consts) :]
    return any(_integers(value, v.aval) is not None for value, v in pairs)


def _turns(
    site: Site,
    inputs: list[Value],
    run: Run,
    numbered: bool,
    most: int | None = None,
) -> list[Value]:
    """Follow turn by turn, until further turns would give the same result.

    `most` ends it earlier.
    """
    params, outvars = site.equation.params, site.equation.outvars
    consts, carry, rows = scan_operands(params, inputs)
    first = len(inputs) - len(rows)
    avals = [variable.aval for variable in site.equation.invars[first:]]
    number = _integers if numbered else _unknown
    whole = list(map(number, rows, avals))
    if not numbered:
        carry = [Value(value.owners) for value in carry]
    length, stacked = params["length"], []
    # With equal rows, a turn that changes nothing will not change anything later.
    alike = not numbered and all(value.owners.shape[0] == 1 for value in rows)
    for turn in range(length)[:most]:
        index = length - 1 - turn if params["reverse"] else turn
        row = [
            _numbered(_row(value.owners, index), None if n is None else n[index])
            for value, n in zip(rows, whole, strict=True)
        ]
        outputs = run(params["jaxpr"], consts + carry + row, site.trace, site)
        outputs = [  # numbers in each turn, or the last one would ask all before it
            _numbered(value.owners, number(value, variable.aval))
            for value, variable in zip(outputs, outvars, strict=True)
        ]
        after = outputs[: len(carry)]
        stacked.append(outputs[len(carry) :])
        settled = all(_same(a.owners, b) for a, b in zip(after, carry, strict=True))
        carry = after
        if alike and settled:
            stacked += [stacked[-1]] * (length - 1 - turn)
            break
    if params["reverse"]:
        stacked.reverse()
    # No turn is taken. The carry is the start, and the rows depend on nothing.
    if not stacked:
        return carry + [Value(free(v.aval.ndim)) for v in outvars[len(carry) :]]
    return carry + [_stack(list(column)) for column in zip(*stacked, strict=True)]


def _integers(value: Value, aval: Any) -> Any:
    """Return the array of a value that may be an index; None if it is unknown."""
    may_be = jax.dtypes.issubdtype(aval.dtype, np.integer)
    return value.number() if may_be else None


def _unknown(value: Value, aval: Any) -> None:
    """Act as `_integers` where numbers are not followed."""


def _numbered(owners: Owners, number: Any) -> Value:
    """Return a value that is this number, or unknown if it is None."""
    return Value(owners, lambda: number)


def _row(table: Owners, index: int) -> Owners:
    # A row without axes would be a NumPy scalar, and tables are arrays.
    return np.asarray(table[index if table.shape[0] > 1 else 0])


def _stack(values: list[Value]) -> Value:
    """Join the rows of all turns."""
    tables = np.stack(np.broadcast_arrays(*(value.owners for value in values)))
    numbers = [value.number() for value in values]
    unknown = any(number is None for number in numbers)
    return _numbered(tables, None if unknown else np.stack(numbers))


CONTROL = {"cond": _cond, "while": _while, "scan": _scan}
