"""Initial kernels from Haiku's default distribution, as in DeepMind's BYOL."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array

_DENSITY_AT_2 = math.exp(-2) / math.sqrt(2 * math.pi)
TRUNCATED = math.sqrt(1 - 4 * _DENSITY_AT_2 / math.erf(math.sqrt(2)))
"""Standard deviation of a standard normal that is truncated at 2: 0.8796."""


def fan_in_init(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32):
    """Draw from a normal with sigma = 1 / sqrt(fan_in), truncated at 2 sigma.

    This is Haiku's default. It does not correct for the truncation, so the draws have a
    standard deviation of `TRUNCATED` x sigma. `nn.initializers.lecun_normal` corrects.
    `fan_in` is the product of all axes but the last.
    """
    sigma = 1 / math.sqrt(math.prod(shape[:-1]))
    return sigma * jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)


def draw_kernels(key: Array, params: dict[str, Any]) -> dict[str, Any]:
    """Draw every `kernel` of a tree anew as `fan_in_init` does, with one random draw.

    Other leaves stay. XLA on CPUs takes about two seconds to compile a random draw of
    each new shape, so a network whose layers draw one by one takes minutes to start.
    """
    leaves, tree = jax.tree.flatten_with_path(params)
    kernels = [leaf for path, leaf in leaves if path[-1].key == "kernel"]
    sizes = [leaf.size for leaf in kernels]
    flat = jax.random.truncated_normal(key, -2.0, 2.0, (sum(sizes),), jnp.float32)
    pieces = iter(jnp.split(flat, list(itertools.accumulate(sizes))[:-1]))
    drawn = [
        next(pieces).reshape(leaf.shape) / math.sqrt(math.prod(leaf.shape[:-1]))
        if path[-1].key == "kernel"
        else leaf
        for path, leaf in leaves
    ]
    return jax.tree.unflatten(tree, drawn)
