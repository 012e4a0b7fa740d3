"""Weight Standardization."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

EPSILON = 1e-6


def weight_standardize(
    kernel: Float[Array, "..."], epsilon: float = EPSILON
) -> Float[Array, "..."]:
    """Zero mean and variance 1 / fan_in for every output unit (the last axis).

    Weight Standardization (arXiv 1903.10520), with the factor 1 / sqrt(fan_in) of
    NF-ResNets (arXiv 2101.08692) so that a layer keeps the scale of its input where
    no norm follows; before a norm the factor has no effect. Biased variance, epsilon
    inside the root, float32.
    """
    kernel = kernel.astype(jnp.float32)
    inputs = tuple(range(kernel.ndim - 1))
    fan_in = math.prod(kernel.shape[:-1])
    centred = kernel - kernel.mean(inputs, keepdims=True)
    variance = jnp.square(centred).mean(inputs, keepdims=True)
    return centred * jax.lax.rsqrt(variance * fan_in + epsilon)
