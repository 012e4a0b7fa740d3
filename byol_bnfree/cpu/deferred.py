"""A value that is computed when it is known what follows it."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float


class Deferred:
    """A normalized array, before it is computed.

    A block ends with relu(norm(y) + x). Written so, each of the three is a pass over
    memory; computed in the pass that normalizes, the other two are free. So `+` makes
    another deferred value, and `relu` computes all of it. Whoever needs the array
    itself takes `jnp.asarray` of it.
    """

    def __init__(
        self,
        compute: Callable[[Array | None, bool], Array],
        like: Float[Array, "b ... c"],
        shortcut: Float[Array, "b ... c"] | None = None,
    ):
        """`compute(shortcut, relu)` normalizes; the result has the shape of `like`."""
        self._compute, self._like, self._shortcut = compute, like, shortcut
        self.shape, self.ndim, self.dtype = like.shape, like.ndim, like.dtype

    def __add__(self, other):
        other = jnp.asarray(other)
        fits = (other.shape, other.dtype) == (self.shape, self.dtype)
        if fits and self._shortcut is None:
            return Deferred(self._compute, self._like, other)
        return jnp.asarray(self) + other

    __radd__ = __add__

    def relu(self) -> Float[Array, "b ... c"]:
        """The ReLU of it, in the same pass."""
        return self._compute(self._shortcut, True)

    def __jax_array__(self) -> Float[Array, "b ... c"]:
        return self._compute(self._shortcut, False)


def relu(x: Deferred | Array) -> Array:
    """max(x, 0)."""
    return x.relu() if isinstance(x, Deferred) else nn.relu(x)
