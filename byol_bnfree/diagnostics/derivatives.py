"""Static check that the derivative of a function keeps examples apart."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array

from byol_bnfree.diagnostics.static import StaticReport, batch_size, follow


def gradient_independence(
    function: Callable[..., Any], images: Any, *fixed: Any
) -> StaticReport | None:
    """Follow each example through the program that differentiates `function`.

    A custom derivative (`jax.custom_vjp`, `jax.custom_jvp`) has a forward pass of its
    own, which training uses instead of the function. Its values and its derivative may
    mix examples although the function does not. Gradients of parameters are sums over
    examples and not examined. The arguments are those of `static_independence`.

    Returns:
      The verdict on row i of the images' gradient as a function of row i of the
      outputs' gradients, and on the outputs of that forward pass. Outputs without a
      gradient are judged by their tangents. None if an output has neither, and nothing
      is wrong with the others.
    """
    batch_size(images)
    parts = partial(floats_and_others, function)
    together = _backward(parts, images, fixed)
    if together:
        return together
    program = jax.make_jaxpr(lambda *inputs: parts(*inputs)[0])(images, *fixed)
    reports = []
    for index in range(len(program.out_avals)):
        output = partial(_one_output, program, index)
        reports.append(
            _backward(output, images, fixed) or _tangents(output, images, fixed)
        )
    return _worst(reports)


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


def _one_output(program: Any, index: int, *inputs: Any) -> tuple[list[Array], list]:
    """Compute one output only: others may need operations without a derivative."""
    jaxpr = program.jaxpr
    output = jaxpr.outvars[index]
    needed, equations = {id(output)}, []
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(map(id, equation.outvars)):
            equations.append(equation)
            needed.update(map(id, equation.invars))
    info = jaxpr.debug_info._replace(result_paths=None)
    one = jaxpr.replace(eqns=equations[::-1], outvars=[output], debug_info=info)
    run = core.jaxpr_as_fun(program.replace(jaxpr=one))
    return run(*jax.tree.leaves(inputs)), []


def _backward(parts: Callable[..., Any], images: Any, fixed: Any):
    """Judge gradients and values in reverse mode; None if JAX has no derivative."""

    def pull_back(images, gradients, *fixed):
        values, pull, others = jax.vjp(
            lambda images: parts(images, *fixed), images, has_aux=True
        )
        return pull(gradients), values, others

    try:
        outputs, _ = jax.eval_shape(parts, images, *fixed)
        jaxpr = jax.make_jaxpr(pull_back)(images, outputs, *fixed)
    except Exception:  # JAX and rules of users raise many kinds
        return None
    return follow(jaxpr, (images, outputs), fixed, images.shape[0])


def _tangents(parts: Callable[..., Any], images: Any, fixed: Any):
    """Judge tangents and values in forward mode; None if JAX has no derivative."""

    def push_forward(images, tangents, *fixed):
        return jax.jvp(lambda images: parts(images, *fixed)[0], (images,), (tangents,))

    try:
        jaxpr = jax.make_jaxpr(push_forward)(images, images, *fixed)
    except Exception:  # as in `_backward`
        return None
    return follow(jaxpr, (images, images), fixed, images.shape[0])


def _worst(reports: list[StaticReport | None]) -> StaticReport | None:
    """Join the verdicts on several outputs."""
    places = [place for report in reports if report for place in report.places]
    for verdict in ("mixes examples", "not proven"):
        if any(report and report.verdict == verdict for report in reports):
            return StaticReport(verdict, tuple(dict.fromkeys(places)))
    return None if None in reports else StaticReport("independent")
