"""Weight Standardization."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from byol_bnfree.errors import InputError
from byol_bnfree.scalars import is_scalar

EPSILON = 1e-6  # our choice; P2 (arXiv 2010.10241) does not state it


def weight_standardize(
    kernel: Float[Array, "..."], epsilon: float = EPSILON
) -> Float[Array, "..."]:
    """Give each output unit (last axis) zero mean and variance 1 / fan_in.

    This is Weight Standardization (arXiv 1903.10520) with the factor 1 / sqrt(fan_in)
    of NF-ResNets (arXiv 2101.08692). With the factor a layer keeps the scale of its
    input where no norm follows. A norm after the layer cancels the factor.

    The variance is biased, and epsilon stands inside the root. Result: float32.

    Raises:
      InputError: if the kernel is no array of real floats, if epsilon is not one finite
        number of at least 0, and if an output unit has fewer than two weights. One
        weight minus its mean is zero.
    """
    _check_arguments(kernel, epsilon)
    kernel = jnp.asarray(kernel, jnp.float32)
    inputs = tuple(range(kernel.ndim - 1))
    fan_in = math.prod(kernel.shape[:-1])
    check_fan_in(kernel.shape)
    centred = kernel - kernel.mean(inputs, keepdims=True)
    variance = jnp.square(centred).mean(inputs, keepdims=True)
    return centred * jax.lax.rsqrt(variance * fan_in + epsilon)


def _check_arguments(kernel: Any, epsilon: Any) -> None:
    if not hasattr(kernel, "shape"):
        raise InputError(
            f"the kernel is of type {type(kernel).__name__}; give an array [... o]."
        )
    if not jnp.issubdtype(kernel.dtype, jnp.floating):
        raise InputError(f"the kernel is {kernel.dtype}; give an array of floats.")
    if not is_scalar(epsilon):
        raise InputError(
            f"epsilon is {epsilon!r}; give one finite number of at least 0."
        )


def check_fan_in(shape: tuple[int, ...]) -> None:
    """Raise `InputError` if a kernel has fewer than two weights for an output unit."""
    if math.prod(shape[:-1]) < 2:
        raise InputError(
            f"a kernel of shape {shape} cannot be standardized, because one weight "
            f"minus its mean is zero; give the layer two inputs or more, or use one "
            f"without weight standardization."
        )
