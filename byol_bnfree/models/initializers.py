"""Initial kernels by Haiku's default law, as in DeepMind's BYOL."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array


def fan_in_init(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32):
    """Normal truncated at 2 sigma, sigma = 1 / sqrt(fan_in).

    Haiku's default, which does not correct for the truncation: the deviation of the
    draws is 0.88 sigma. `nn.initializers.lecun_normal` does correct.
    """
    sigma = 1 / math.sqrt(math.prod(shape[:-1]))
    return sigma * jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)


def draw_kernels(key: Array, params: dict[str, Any]) -> dict[str, Any]:
    """The tree with every `kernel` drawn anew by `fan_in_init`'s law, all at once.

    XLA:CPU takes about two seconds to compile each random draw of another shape, so a
    network whose layers draw for themselves takes minutes to start.
    """
    leaves, tree = jax.tree.flatten_with_path(params)
    kernels = [leaf for path, leaf in leaves if path[-1].key == "kernel"]
    sizes = [leaf.size for leaf in kernels]
    flat = jax.random.truncated_normal(key, -2.0, 2.0, (sum(sizes),))
    pieces = iter(jnp.split(flat, list(itertools.accumulate(sizes))[:-1]))
    drawn = [
        next(pieces).reshape(leaf.shape) / math.sqrt(math.prod(leaf.shape[:-1]))
        if path[-1].key == "kernel"
        else leaf
        for path, leaf in leaves
    ]
    return jax.tree.unflatten(tree, drawn)
