"""The max-pool's gradient on CPU is XLA's."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

import tiny
from byol_bnfree.models.pooling import max_pool


def xla(x, padding="SAME"):
    return nn.max_pool(x, (3, 3), (2, 2), padding)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="XLA's own elsewhere")
@pytest.mark.parametrize("height, width", [(8, 8), (7, 7), (8, 5), (3, 2), (1, 1)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("padding", ["SAME", "SAME_LOWER"])
def test_max_pool_is_xlas_in_value_and_gradient(height, width, dtype, padding):
    """Of small whole numbers many are equal: the first of them has the gradient."""
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.randint(keys[0], (2, height, width, 3), -2, 3).astype(dtype)
    weight = jax.random.randint(keys[1], xla(x).shape, -4, 5).astype(dtype)

    def both(pool):
        value, pull_back = jax.vjp(partial(pool, padding=padding), x)
        return value, pull_back(weight)[0]

    tiny.assert_close(
        *(jax.tree.map(jnp.float32, both(pool)) for pool in (max_pool, xla)),
        rtol=0,
        atol=0,
    )
