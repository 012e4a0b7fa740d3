"""Static check that a function of a batch keeps examples apart, for all inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from byol_bnfree.diagnostics.dataflow import Place, Trace, trace_owners
from byol_bnfree.diagnostics.dataflow.owners import FREE, Owners, free
from byol_bnfree.diagnostics.dataflow.trace import source_line
from byol_bnfree.errors import InputError

Verdict = Literal["independent", "mixes examples", "not proven"]


@dataclass(frozen=True)
class StaticReport:
    """The result of the static check."""

    verdict: Verdict
    places: tuple[Place, ...] = ()
    """Places where examples interact, or that cannot be judged."""

    def __str__(self) -> str:
        return "; ".join([self.verdict, *map(str, self.places)])


def static_independence(function: Callable[..., Any], images: Any) -> StaticReport:
    """Follow each example of `images` through the traced program of `function`.

    Args:
      function: maps images to an array [b ...] or a tree of them.
      images: array or `jax.ShapeDtypeStruct` [b ...]. Only shape and dtype are used.

    Returns:
      "independent" only if row i of every output depends on image i only, for all
      inputs of this shape. Otherwise the operations and source lines that prevent it.

    Raises:
      InputError: for fewer than two images, or an output that is not [b ...].
    """
    size = _batch_size(images)
    jaxpr = jax.make_jaxpr(function)(images)
    if not jaxpr.out_avals:
        raise InputError("the function returns no array; return arrays [b ...].")
    for output in jaxpr.out_avals:
        check_rows(output.shape, size)
    tables, trace = trace_owners(jaxpr, [along_batch(size, np.ndim(images))])
    return judge(tables, trace, size)


def gradient_independence(
    function: Callable[..., Any], images: Any
) -> StaticReport | None:
    """Follow each example through the backward program of `function`.

    A custom derivative (`jax.custom_vjp`, `jax.custom_jvp`) may mix examples although
    its values do not. Gradients of parameters are sums over examples and not examined.

    Returns:
      The verdict on row i of the images' gradient as a function of row i of the
      outputs' gradients. None if JAX cannot differentiate the function.
    """
    size = _batch_size(images)

    def numbers(images):
        leaves = jax.tree.leaves(function(images))
        return [x for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)]

    def pull_back(images, gradients):
        return jax.vjp(numbers, images)[1](gradients)

    try:
        outputs = jax.eval_shape(numbers, images)
        jaxpr = jax.make_jaxpr(pull_back)(images, outputs)
    except (TypeError, ValueError, NotImplementedError):
        return None  # JAX raises these if there is no derivative
    ranks = [np.ndim(images), *(len(x.shape) for x in outputs)]
    tables, trace = trace_owners(jaxpr, [along_batch(size, rank) for rank in ranks])
    return judge(tables, trace, size)


def along_batch(size: int, rank: int) -> Owners:
    """Return the owner table of a batch: example i owns row i."""
    return np.arange(size, dtype=np.int32).reshape((size,) + (1,) * (rank - 1))


def step_places(step: Callable[..., Any], state: Any, batch: Any) -> list[Place]:
    """List every place where a function of (state, batch) mixes examples.

    The leaves of the batch are [b ...]; the state depends on no example of it. Dead
    code counts too.
    """
    jaxpr = jax.make_jaxpr(step)(state, batch)
    inputs = [free(len(leaf.shape)) for leaf in jax.tree.leaves(state)]
    shapes = [leaf.shape for leaf in jax.tree.leaves(batch)]
    inputs += [along_batch(shape[0], len(shape)) for shape in shapes]
    _, trace = trace_owners(jaxpr, inputs)
    return [place for place in trace.places if place.kind != "moves"]


def carried_over(step: Callable[..., Any], state: Any, batch: Any) -> Place | None:
    """Return a place if a function of (state, batch) stores examples in its result.

    The next batch would then depend on them. The place is the last operation of the
    program. None means that the result depends on no example. Leaves of the batch are
    [b ...].
    """
    jaxpr = jax.make_jaxpr(step)(state, batch)
    inputs = [free(len(leaf.shape)) for leaf in jax.tree.leaves(state)]
    shapes = [leaf.shape for leaf in jax.tree.leaves(batch)]
    inputs += [along_batch(shape[0], len(shape)) for shape in shapes]
    tables, _ = trace_owners(jaxpr, inputs)
    if all((table == FREE).all() for table in tables):
        return None
    last = jaxpr.eqns[-1]
    return Place("moves", last.primitive.name, source_line(last.source_info), False)


def judge(tables: list[Owners], trace: Trace, size: int) -> StaticReport:
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


def _batch_size(images: Any) -> int:
    if not np.ndim(images) or images.shape[0] < 2:
        raise InputError(
            "images must be a batch [b ...] of two or more to tell examples apart."
        )
    return images.shape[0]


def check_rows(shape: tuple[int, ...], size: int) -> None:
    """Raise `InputError` unless an output has one row per image."""
    if not shape or shape[0] != size:
        raise InputError(
            f"an output of shape {shape} has no row for each of the {size} images; "
            f"return arrays [b ...] only."
        )
