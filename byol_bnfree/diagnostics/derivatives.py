"""Static check that the derivative of a function keeps examples apart."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array

from byol_bnfree.diagnostics.dataflow import trace_owners
from byol_bnfree.diagnostics.dataflow.owners import free, is_free
from byol_bnfree.diagnostics.static import (
    StaticReport,
    along_batch,
    batch_size,
    follow,
    only,
)


def gradient_independence(
    function: Callable[..., Any], images: Any, *fixed: Any
) -> StaticReport | None:
    """Follow each example through the program that differentiates `function`.

    A custom derivative (`jax.custom_vjp`, `jax.custom_jvp`) has a forward pass of its
    own, which training uses instead of the function. Its values and its derivative may
    mix examples although the function does not. The program is differentiated by the
    images and by all weights: floats in `fixed`, and those that the function closes
    over. The values are judged once more with a derivative by the weights alone, as in
    training, because a rule may compute others then. Weights without a derivative count
    as constants. Gradients of weights are sums over examples and not examined. A custom
    backward rule is therefore only examined on the way of a gradient to the images. The
    arguments are those of `static_independence`.

    Returns:
      The verdict on row i of the images' gradient as a function of row i of the
      outputs' gradients, and on the outputs of that forward pass. "no gradient" if that
      forward pass is independent and no gradient reaches the images. Outputs without a
      gradient are judged by their tangents. None if an output has neither, and nothing
      is wrong with the others.
    """
    size = batch_size(images)
    program = jax.make_jaxpr(function)(images, *fixed)
    tree = jax.tree.structure((images, *fixed))

    def from_leaves(*leaves):
        return function(*jax.tree.unflatten(tree, leaves))

    report = _by_images(program, size, from_leaves)
    in_training = _values_in_training(program, size, from_leaves)
    return _worst([report, in_training]) if in_training.places else report


def _by_images(
    program: core.ClosedJaxpr, size: int, function: Callable[..., Any]
) -> StaticReport | None:
    """Judge gradients to the images, and the values that go with them."""
    everything = float_places(program)
    images_only = float_places(program, by_weights=False)
    given = [place for place in everything if place >= len(program.consts)]
    # The traced program has fewer source lines than the function.
    report = _backward(program, size, given, function)
    if report and (report.places or given == everything):
        return report
    report = _backward(program, size, everything) or report
    if report:
        return report
    reports = []
    for index in range(len(program.out_avals)):
        # Others may need operations without a derivative.
        one = only(program, [index])
        tried = ((way, by) for by in (everything, images_only) for way in _WAYS)
        found = (way(one, size, by) for way, by in tried)
        reports.append(next(filter(None, found), None))
    return _worst(reports)


def _values_in_training(
    program: core.ClosedJaxpr, size: int, function: Callable[..., Any]
) -> StaticReport:
    """Judge the values that go with a derivative by the weights alone.

    Outputs without a derivative are judged by nothing. Training has none of them.
    """
    weights = float_places(program, by_images=False)
    if not weights:
        return StaticReport("independent")
    images, *fixed = _shapes(program.in_avals)

    def judge(part: core.ClosedJaxpr, function=None) -> StaticReport | None:
        """Judge some outputs; None if JAX has no derivative of them."""

        def values(images, fixed):
            run, arrays = differentiable(part, [images, *fixed], weights, function)
            found, _, others = jax.vjp(run, arrays, has_aux=True)
            return found, others

        try:
            jaxpr = jax.make_jaxpr(values)(images, fixed)
        except Exception:  # as in `_backward`
            return None
        return follow(jaxpr, images, fixed, size)

    closed_over = any(place < len(program.consts) for place in weights)
    report = judge(program, None if closed_over else function)
    if report:
        return report
    parts = (only(program, [index]) for index in range(len(program.out_avals)))
    return _worst([report for report in map(judge, parts) if report])


def floats_and_others(
    function: Callable[..., Any], *inputs: Any
) -> tuple[list[Array], list[Array]]:
    """Split the outputs of a function into those with a derivative and those without.

    The first are floats and complex numbers, the second integers and booleans.
    """
    leaves = jax.tree.leaves(function(*inputs))
    has_derivative = [jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves]
    pairs = list(zip(leaves, has_derivative, strict=True))
    return [x for x, yes in pairs if yes], [x for x, yes in pairs if not yes]


class Differentiable(NamedTuple):
    """A program as a function of what it is differentiated by."""

    run: Callable[[list[Array]], tuple[list[Array], list[Array]]]
    """Maps the arrays to outputs with a derivative, and to the others."""
    arrays: list[Array]


def differentiable(
    program: core.ClosedJaxpr,
    inputs: list[Array],
    places: list[int],
    function: Callable[..., Any] | None = None,
) -> Differentiable:
    """Return a program in a form to differentiate.

    Args:
      program: of images and other inputs.
      inputs: of the program.
      places: of the arrays to differentiate by, such as `float_places` gives.
      function: of the inputs, runs instead of the program.
    """
    every, count = [*program.consts, *inputs], len(program.consts)

    def run(arrays: list[Array]) -> tuple[list[Array], list[Array]]:
        full = list(every)
        for place, array in zip(places, arrays, strict=True):
            full[place] = array
        closed = program.replace(consts=full[:count])
        called = function or core.jaxpr_as_fun(closed)
        return floats_and_others(called, *full[count:])

    return Differentiable(run, [every[place] for place in places])


def float_places(
    program: core.ClosedJaxpr, by_images: bool = True, by_weights: bool = True
) -> list[int]:
    """Return the places of floats in [*constants, *inputs], the images first.

    The images are the first input. They are left out if they are integers. The others
    are weights.
    """
    jaxpr, first = program.jaxpr, len(program.consts)
    avals = [variable.aval for variable in (*jaxpr.constvars, *jaxpr.invars)]
    weights = (*range(first), *range(first + 1, len(avals)))
    images = (first,) if by_images else ()
    order = (*images, *(weights if by_weights else ()))
    return [place for place in order if _is_float(avals[place])]


def _is_float(aval: Any) -> bool:
    """Return True for arrays with a derivative; a mutable array has an inner aval."""
    mutable = hasattr(aval, "inner_aval")
    return not mutable and jnp.issubdtype(aval.dtype, jnp.inexact)


def _backward(program: core.ClosedJaxpr, size: int, places: list[int], function=None):
    """Judge gradients and values in reverse mode; None if JAX has no derivative."""
    images, *fixed = _shapes(program.in_avals)
    outputs = _shapes(filter(_is_float, program.out_avals))
    count = int(_is_float(images))

    def pull_back(images, gradients, fixed):
        inputs = [images, *fixed]
        run, arrays = differentiable(program, inputs, places, function)
        values, pull, others = jax.vjp(run, arrays, has_aux=True)
        (by_each,) = pull(gradients)
        return by_each[:count], values, others

    try:
        jaxpr = jax.make_jaxpr(pull_back)(images, outputs, fixed)
    except Exception:  # JAX and rules of users raise many kinds
        return None
    return _judge(jaxpr, count, (images, outputs), fixed, size)


def _tangents(program: core.ClosedJaxpr, size: int, places: list[int]):
    """Judge tangents and values in forward mode; None if JAX has no derivative."""
    images, *fixed = _shapes(program.in_avals)
    variables = (*program.jaxpr.constvars, *program.jaxpr.invars)
    seeds = _shapes(variables[n].aval for n in places)
    count = int(_is_float(images))
    of_images, of_weights = seeds[:count], seeds[count:]

    def push_forward(images, of_images, fixed, of_weights):
        run, arrays = differentiable(program, [images, *fixed], places)
        seeds = of_images + of_weights
        values, tangents, others = jax.jvp(run, (arrays,), (seeds,), has_aux=True)
        return tangents, values, others

    try:
        jaxpr = jax.make_jaxpr(push_forward)(images, of_images, fixed, of_weights)
    except Exception:  # as in `_backward`
        return None
    tangents = sum(map(_is_float, program.out_avals))
    batch = (images, of_images)
    return _judge(jaxpr, tangents, batch, (fixed, of_weights), size)


_WAYS = (_backward, _tangents)


def _shapes(avals: Iterable[Any]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]


def _judge(
    jaxpr: core.ClosedJaxpr, count: int, batch: tuple, fixed: Any, size: int
) -> StaticReport:
    """Judge a program whose first `count` outputs are derivatives.

    The batch is the images and the derivatives that the program starts from.
    """
    report = follow(jaxpr, batch, fixed, size)
    if report.verdict != "independent":
        return report
    images, starts = batch
    inputs = [free(len(images.shape))]
    inputs += [along_batch(size, len(x.shape)) for x in starts]
    inputs += [free(np.ndim(x)) for x in jax.tree.leaves(fixed)]
    tables, _ = trace_owners(only(jaxpr, range(count)), inputs)
    return StaticReport("no gradient") if all(map(is_free, tables)) else report


def _worst(reports: list[StaticReport | None]) -> StaticReport | None:
    """Join the verdicts on several outputs."""
    places = [place for report in reports if report for place in report.places]
    for verdict in ("mixes examples", "not proven"):
        if any(report and report.verdict == verdict for report in reports):
            return StaticReport(verdict, tuple(dict.fromkeys(places)))
    if None in reports:
        return None
    reached = any(report.verdict == "independent" for report in reports)
    return StaticReport("independent" if reached else "no gradient")
