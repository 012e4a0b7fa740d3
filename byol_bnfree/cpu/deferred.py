"""Delays a normalization until the operations after it are known."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float


class Deferred:
    """A normalized array that is not computed yet.

    A block ends with relu(norm(y) + x). As three operations these are three passes over
    memory. Computed in the pass that normalizes, the addition and the ReLU are free. So
    `+` returns another deferred array, and `relu` computes everything. `jnp.asarray`
    computes the array itself.
    """

    def __init__(
        self,
        compute: Callable[[Array | None, bool], Array],
        like: Float[Array, "b ... c"],
        shortcut: Float[Array, "b ... c"] | None = None,
    ):
        """Wrap `compute(shortcut, relu)`, whose result has the shape of `like`."""
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
        """Compute the array and its ReLU in one pass."""
        return self._compute(self._shortcut, True)

    def __jax_array__(self) -> Float[Array, "b ... c"]:
        return self._compute(self._shortcut, False)


def relu(x: Deferred | Array) -> Array:
    """Return max(x, 0)."""
    return x.relu() if isinstance(x, Deferred) else nn.relu(x)
