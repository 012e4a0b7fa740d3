"""The max-pool on CPU, and its gradient, are XLA's."""

import jax
import jax.numpy as jnp
import pytest

import tiny
from byol_bnfree.cpu.choice import choose_kernels
from byol_bnfree.cpu.pooling import max_pool
from byol_bnfree.models.kernels import XLA


@pytest.mark.parametrize("padding", ["SAME", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("height, width", [(8, 8), (7, 4)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_max_pool_is_xlas_in_value_and_gradient(height, width, dtype, padding):
    """Of small whole numbers many are equal: the first of them has the gradient."""
    assert_equal_to_xlas((2, height, width, 3), dtype, padding)


@pytest.mark.parametrize("size", [(3, 2), (1, 1)])
@pytest.mark.parametrize("padding", ["SAME", "SAME_LOWER", ((1, 1), (1, 1))])
def test_so_it_is_of_maps_smaller_than_the_window(size, padding):
    assert_equal_to_xlas((2, *size, 3), "float32", padding)


def assert_equal_to_xlas(shape, dtype, padding):
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.randint(keys[0], shape, -2, 3).astype(dtype)
    weight = jax.random.randint(keys[1], XLA.max_pool(x, padding).shape, -4, 5)

    def both(pool):
        value, pull_back = jax.vjp(lambda x: pool(x, padding), x)
        return value, pull_back(weight.astype(dtype))[0]

    ours, theirs = (
        jax.tree.map(jnp.float32, both(pool)) for pool in (max_pool, XLA.max_pool)
    )
    tiny.assert_close(ours, theirs, rtol=0, atol=0)


def test_gpus_sum_no_gradient_in_any_order(monkeypatch):
    """A scatter with repeated places, as of XLA's own max-pool, has no fixed order."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    pool = choose_kernels("auto", 1).max_pool
    x = jnp.ones((2, 8, 8, 3))
    text = str(jax.make_jaxpr(jax.grad(lambda x: pool(x, "SAME").sum()))(x))
    assert "reduce_window" in text and "scatter" not in text
    of_xla = str(jax.make_jaxpr(jax.grad(lambda x: XLA.max_pool(x, "SAME").sum()))(x))
    assert "scatter" in of_xla
