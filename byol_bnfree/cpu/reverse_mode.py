"""A clear error if forward-mode differentiation meets our C++ calls.

The calls have reverse-mode gradients only (`jax.custom_vjp`). JAX's own error names
neither the call nor a remedy. So tangents pass through the primitive `_tangent` first.
Reverse mode transposes it away. Forward mode would have to compute it, and gets our
error.
"""

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from byol_bnfree.errors import InputError

_tangent = Primitive("reverse_mode_only")


def reverse_mode_only(*arrays: Array) -> tuple[Array, ...]:
    """Return the same arrays. Forward-mode differentiation of them raises an error."""
    return tuple(map(_passed, arrays))


@jax.custom_jvp
def _passed(array):
    return array


@_passed.defjvp
def _jvp(arrays, tangents):
    return arrays[0], _tangent.bind(tangents[0])


def _refuse(*_, **__):
    raise InputError(
        "the CPU kernels have no forward-mode derivative (jax.jvp, jax.jacfwd); use "
        "reverse mode (jax.grad, jax.jacrev), or XLA's kernels (models.kernels.XLA; "
        "--run.convolution=xla)."
    )


_tangent.def_impl(_refuse)
_tangent.def_abstract_eval(lambda tangent: tangent)
mlir.register_lowering(_tangent, _refuse)
ad.deflinear2(_tangent, lambda cotangent, _: [cotangent])
batching.primitive_batchers[_tangent] = lambda arrays, axes: (
    _tangent.bind(*arrays),
    axes[0],
)
