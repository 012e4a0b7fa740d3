"""Static check that a function of a batch keeps examples apart, for all inputs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax.extend import core

from byol_bnfree.diagnostics.dataflow import Place, Trace, trace_owners
from byol_bnfree.diagnostics.dataflow.owners import (
    FREE,
    Owners,
    free,
    is_free,
)
from byol_bnfree.diagnostics.dataflow.trace import source_line
from byol_bnfree.errors import InputError
from byol_bnfree.leaves import by_path

Verdict = Literal["independent", "mixes examples", "not proven", "no gradient"]
"""The last one is about gradients only: none reaches the images."""


@dataclass(frozen=True)
class StaticReport:
    """The result of the static check."""

    verdict: Verdict
    places: tuple[Place, ...] = ()
    """Places where examples interact, or that cannot be judged."""

    def __str__(self) -> str:
        return "; ".join([self.verdict, *map(str, self.places)])


def static_independence(
    function: Callable[..., Any], images: Any, *fixed: Any
) -> StaticReport:
    """Follow each example of `images` through the traced program of `function`.

    Args:
      function: maps images, and `fixed`, to an array [b ...] or a tree of them. Arrays
        that it closes over are constants of it.
      images: array or `jax.ShapeDtypeStruct` [b ...]. Only shape and dtype are used.
      *fixed: weights and random keys, as trees of arrays. They belong to no example,
        and the result holds for all values of them.

    Returns:
      "independent" only if row i of every output depends on image i only, for all
      inputs of these shapes and all random draws. Otherwise the operations and source
      lines that prevent it.

    Raises:
      InputError: for fewer than two images, or an output that is not numbers [b ...].
    """
    size = batch_size(images)
    jaxpr = jax.make_jaxpr(function)(images, *fixed)
    if not jaxpr.out_avals:
        raise InputError("the function returns no array; return arrays [b ...].")
    for output in jaxpr.out_avals:
        check_rows(output, size)
    return follow(jaxpr, images, fixed, size)


def follow(jaxpr: Any, batch: Any, fixed: Any, size: int) -> StaticReport:
    """Judge a program of `batch`, whose leaves are [b ...], and of `fixed`."""
    inputs = [along_batch(size, len(x.shape)) for x in jax.tree.leaves(batch)]
    inputs += [free(np.ndim(x)) for x in jax.tree.leaves(fixed)]
    needed = only(jaxpr, range(len(jaxpr.out_avals)))
    tables, trace = trace_owners(needed, inputs)
    return report_of(tables, trace, size)


def only(program: core.ClosedJaxpr, outputs: Iterable[int]) -> core.ClosedJaxpr:
    """Return the part of a program that computes some of its outputs."""
    jaxpr = program.jaxpr
    chosen = [jaxpr.outvars[index] for index in outputs]
    needed, equations = set(map(id, chosen)), []
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(map(id, equation.outvars)):
            equations.append(equation)
            needed.update(map(id, equation.invars))
    info = jaxpr.debug_info._replace(result_paths=None)
    part = jaxpr.replace(eqns=equations[::-1], outvars=chosen, debug_info=info)
    return program.replace(jaxpr=part)


def along_batch(size: int, rank: int) -> Owners:
    """Return the owner table of a batch: example i owns row i."""
    return np.arange(size, dtype=np.int32).reshape((size,) + (1,) * (rank - 1))


def step_places(step: Callable[..., Any], state: Any, batch: Any) -> list[Place]:
    """List every place where a function of (state, batch) mixes examples.

    The leaves of the batch are [b ...]; the state depends on no example of it. Dead
    code counts too.
    """
    _, _, trace = _owners_after(step, state, batch)
    return [place for place in trace.places if place.kind != "moves"]


def carried_over(step: Callable[..., Any], state: Any, batch: Any) -> Place | None:
    """Return a place if a function of (state, batch) stores examples in its result.

    The next batch would then depend on them. The place is the last operation of the
    program. None means that the result depends on no example. Leaves of the batch are
    [b ...].
    """
    jaxpr, tables, _ = _owners_after(step, state, batch)
    if all(map(is_free, tables)):
        return None
    if not jaxpr.eqns:
        return Place("moves", "the batch itself", "the result", False)
    last = jaxpr.eqns[-1]
    return Place("moves", last.primitive.name, source_line(last.source_info), False)


def stored_examples(
    step: Callable[..., Any], state: Any, batch: Any
) -> tuple[str, ...]:
    """Name the results of a function of (state, batch) that depend on examples.

    Names are paths such as "batch_stats/norm/mean". Leaves of the batch are [b ...].
    """
    _, tables, _ = _owners_after(step, state, batch)
    leaves = by_path(jax.eval_shape(step, state, batch))
    return tuple(
        path for path, table in zip(leaves, tables, strict=True) if not is_free(table)
    )


def _owners_after(step: Callable[..., Any], state: Any, batch: Any):
    """Trace a function of (state, batch); return its jaxpr, the owners and places."""
    inputs = [free(np.ndim(leaf)) for leaf in jax.tree.leaves(state)]
    for leaf in jax.tree.leaves(batch):
        shape = np.shape(leaf)
        if not shape:
            raise InputError(
                "a leaf of the batch is a scalar, which belongs to no example; "
                "give arrays [b ...], and scalars in the state."
            )
        inputs.append(along_batch(shape[0], len(shape)))
    jaxpr = jax.make_jaxpr(step)(state, batch)
    return jaxpr, *trace_owners(jaxpr, inputs)


def report_of(tables: list[Owners], trace: Trace, size: int) -> StaticReport:
    """Judge outputs whose row i may depend on example i only."""
    codes = np.unique(np.concatenate([t[t < FREE].ravel() for t in tables]))
    places = [trace.place(int(code)) for code in codes[::-1]]
    rows = (along_batch(size, table.ndim) for table in tables)
    moved = [((t >= 0) & (t != row)).any() for t, row in zip(tables, rows, strict=True)]
    if any(moved) and not any(place.kind == "mixes" for place in places):
        moves = [place for place in trace.places if place.kind == "moves"]
        nowhere = Place("moves", "the order of the rows", "the output", False)
        places += moves[:1] or [nowhere]
    places = list(dict.fromkeys(places))
    mixing = tuple(place for place in places if place.kind != "unknown")
    if mixing:
        return StaticReport("mixes examples", mixing)
    return StaticReport("not proven" if places else "independent", tuple(places))


def batch_size(images: Any) -> int:
    """Return the size of a batch. Raise `InputError` if it has no two examples."""
    shape = getattr(images, "shape", None)
    if not shape or shape[0] < 2:
        raise InputError(
            "images must be an array [b ...] of two or more images, to tell them apart."
        )
    return shape[0]


def check_rows(output: Any, size: int) -> None:
    """Raise `InputError` unless an output is numbers with one row per image."""
    shape = output.shape
    if not shape or shape[0] != size:
        raise InputError(
            f"an output of shape {shape} has no row for each of the {size} images; "
            f"return arrays [b ...] only."
        )
    if jax.dtypes.issubdtype(output.dtype, jax.dtypes.extended):
        raise InputError(
            f"an output holds {output.dtype}, random keys that are no numbers; return "
            f"jax.random.key_data of them, or leave them out."
        )
