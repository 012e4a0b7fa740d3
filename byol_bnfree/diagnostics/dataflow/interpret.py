"""Follows the examples of a batch through a jaxpr, equation by equation.

The analysis is a sound over-approximation for the traced shapes. If it says that an
element depends on one example, the element depends on no other, for all inputs. Loops
run until nothing changes, or step by step if each step reads another part of the batch.
Loops whose steps have known numbers, such as indices, are followed with these.
"""

import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import numpy as np
from jax.extend import core

from byol_bnfree.diagnostics.dataflow.control import CONTROL
from byol_bnfree.diagnostics.dataflow.owners import (
    Owners,
    filled,
    free,
    in_order,
    is_free,
    smallest,
)
from byol_bnfree.diagnostics.dataflow.rules import RULES
from byol_bnfree.diagnostics.dataflow.trace import Columns, Site, Trace, Value

DRAWS = "random_bits random_gamma threefry2x32 rng_bit_generator rng_uniform".split()
"""Primitives that draw random numbers."""
_CALLED = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call")
_CALLS = frozenset(
    "jit pjit closed_call core_call call custom_jvp_call custom_vjp_call "
    "custom_vjp_call_jaxpr custom_vmap_call composite remat2 checkpoint".split()
)
_JAX = os.path.dirname(jax.__file__) + os.sep


def trace_owners(
    jaxpr: core.ClosedJaxpr, inputs: Sequence[Owners]
) -> tuple[list[Owners], Trace]:
    """Compute owner tables of a program's outputs from those of its inputs."""
    trace = Trace()
    outputs = _run(jaxpr, [Value(table) for table in inputs], trace, None)
    return [value.owners for value in outputs], trace


def _run(program: Any, inputs: list[Value], trace: Trace, caller: Site | None):
    """Run a jaxpr (open or closed). `caller` is the call that it belongs to."""
    jaxpr = getattr(program, "jaxpr", program)
    consts = map(_constant, getattr(program, "consts", ()))
    known = dict(zip(jaxpr.constvars, consts, strict=True))
    known |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom) -> Value:
        return _constant(atom.val) if isinstance(atom, core.Literal) else known[atom]

    in_library = caller is not None and _is_library(jaxpr)
    for equation in jaxpr.eqns:
        site = Site(
            trace,
            equation,
            caller.shown if in_library else equation,
            "transpose(" in str(equation.source_info.name_stack)
            or (caller is not None and caller.backward),
        )
        outputs = _equation(site, [read(atom) for atom in equation.invars])
        known |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _constant(number: Any) -> Value:
    return Value(free(np.ndim(number)), lambda: number)


def _is_library(jaxpr: Any) -> bool:
    """Return True for JAX's own functions. They carry the line of their first use."""
    return (getattr(jaxpr.debug_info, "func_filename", None) or "").startswith(_JAX)


def _equation(site: Site, inputs: list[Value]) -> list[Value]:
    name = site.equation.primitive.name
    if name in _CALLS:
        params = site.equation.params
        called = next(params[key] for key in _CALLED if key in params)
        return _run(called, inputs, site.trace, site)
    if name == "custom_linear_solve":
        return _linear_solve(site, inputs)
    if name in CONTROL:
        found = CONTROL[name](site, inputs, _run)
        return [value._replace(owners=smallest(value.owners)) for value in found]
    return _operation(site, inputs)


def _operation(site: Site, inputs: list[Value]) -> list[Value]:
    """Apply an equation that calls no other program."""
    equation = site.equation
    ranks = [len(getattr(v.aval, "shape", ())) for v in equation.outvars]
    name = equation.primitive.name
    # An effect or a mutable array may return values that were written elsewhere.
    opaque = equation.effects or any(map(_is_mutable, equation.invars))
    columns = _columns(equation, inputs)
    if not opaque and all(is_free(value.owners) for value in inputs):
        return [
            Value(free(rank), _when_asked(equation, inputs, index), columns)
            for index, rank in enumerate(ranks)
        ]
    if opaque or name not in RULES:
        return [Value(filled(site.unknown(), rank)) for rank in ranks]
    tables = [smallest(table) for table in RULES[name](site, inputs)]
    for table in tables:
        if not in_order(table) and all(in_order(v.owners) for v in inputs):
            site.trace.code("moves", site)
    return [Value(table, columns=columns) for table in tables]


def _linear_solve(site: Site, inputs: list[Value]) -> list[Value]:
    """Run the program of the solution. The other programs only derive it."""
    lengths, jaxprs = (site.equation.params[key] for key in ("const_lengths", "jaxprs"))
    start = lengths.matvec + lengths.vecmat
    right = inputs[sum(lengths) :]
    consts = inputs[start : start + lengths.solve]
    return _run(jaxprs.solve, consts + right, site.trace, site)


def _columns(equation: Any, inputs: list[Value]) -> Callable[[], Columns]:
    """Return a function that gives the known columns of joined indices [... k]."""
    is_last = equation.primitive.name == "concatenate" and (
        equation.params["dimension"] == equation.outvars[0].aval.ndim - 1
    )
    if not is_last:
        return lambda: None

    def columns() -> Columns:
        """Return the numbers of each column, or None for an unknown one."""
        known: Columns = []
        for value, atom in zip(inputs, equation.invars, strict=True):
            number, width = value.number(), atom.aval.shape[-1]
            known += [
                None if number is None else np.asarray(number)[..., column]
                for column in range(width)
            ]
        return known

    return columns


def _is_mutable(atom: Any) -> bool:
    return hasattr(atom.aval, "inner_aval")


def _when_asked(
    equation: Any, inputs: list[Value], index: int
) -> Callable[[], np.ndarray | None]:
    """Return a function that computes an output if all inputs are constants.

    Most outputs are never needed, so it runs on demand only. Random numbers are no
    constants: the result must hold for all keys. Neither is the number of the platform:
    it must hold on all machines.
    """
    name = equation.primitive.name
    if name in DRAWS or name.startswith("random_") or name == "platform_index":
        return lambda: None

    @cache
    def number():
        numbers = [value.number() for value in inputs]
        if any(x is None for x in numbers):
            return None
        with jax.ensure_compile_time_eval():
            result = equation.primitive.bind(*numbers, **equation.params)
        return result[index] if equation.primitive.multiple_results else result

    return number
