"""One sentence where forward-mode differentiation meets a call that has none.

The C++ calls have gradients (`jax.custom_vjp`), and JAX's own words for the other mode
name neither the call nor a way out. Tangents pass through `_tangent` on their way in:
reverse mode transposes it away, forward mode would have to compute it.
"""

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from byol_bnfree.errors import InputError

_tangent = Primitive("reverse_mode_only")


def reverse_mode_only(*arrays: Array) -> tuple[Array, ...]:
    """The same arrays, which forward-mode differentiation refuses with a sentence."""
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
