"""The native normalization equals XLA's, with its gradients, for every norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byol_bnfree.cpu import native
from byol_bnfree.cpu.choice import choose_kernels
from byol_bnfree.models.norm import layers_for

problem = native.register()
pytestmark = pytest.mark.skipif(problem is not None, reason=str(problem))

NORMS = {  # options of layers_for; of each, one whose groups no vector divides
    "bn": {"norm": "bn"},
    "bn, groups of images": {"norm": "bn", "stat_groups": 3},
    "gn": {"norm": "gn_ws"},
    "gn, thin groups": {"norm": "gn", "groups": 112, "min_group_channels": 1},
    "ln": {"norm": "ln"},
}
SHAPES = [
    *[(6, 5, 7, 64), (6, 2, 3, 16), (3, 4, 4, 20), (6, 20, 20, 112)],
    *[(3, 4, 6, 8), (6, 2, 2, 4), (3, 3, 5, 4), (3, 8, 8, 12)],  # less than a vector
]


def results(kernels, options, shape, with_shortcut, relu):
    """Output, new statistics and all gradients."""
    draws = np.random.default_rng(0)
    x, more, weights = (jnp.float32(draws.normal(size=shape)) for _ in range(3))
    layers = layers_for(**options, **kernels)
    module = layers.norm()
    variables = {"params": {"scale": jnp.ones(shape[-1]), "bias": jnp.zeros(shape[-1])}}
    if options["norm"] == "bn":
        zeros = {"mean": jnp.zeros(shape[-1]), "var": jnp.zeros(shape[-1])}
        variables["batch_stats"] = zeros | {"count": jnp.int32(0)}
    params = {
        name: value + 0.3 * jnp.float32(draws.normal(size=value.shape))
        for name, value in variables.pop("params").items()
    }

    def f(params, x, shortcut):
        y, stats = module.apply(
            variables | {"params": params}, x, True, mutable=["batch_stats"]
        )
        y = y + shortcut if with_shortcut else y
        y = layers.relu(y) if relu else jnp.asarray(y)
        return jnp.sum(y * weights), (y, stats)

    return jax.jit(jax.grad(f, argnums=(0, 1, 2), has_aux=True))(
        params, 3 * x + 2, more
    )


def assert_native_equals_xlas(*arguments):
    native = results({"kernels": choose_kernels("onednn", 1)}, *arguments)
    plain = results({}, *arguments)
    for a, b in zip(jax.tree.leaves(native), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-5 * max(np.abs(b).max(), 1e-3))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_shortcut", [False, True])
@pytest.mark.parametrize(
    "shape",
    [*SHAPES[::2], *(pytest.param(s, marks=pytest.mark.slow) for s in SHAPES[1::2])],
)
@pytest.mark.parametrize("norm", NORMS)
def test_output_statistics_and_gradients_equal_xlas(norm, shape, with_shortcut, relu):
    assert_native_equals_xlas(NORMS[norm], shape, with_shortcut, relu)


@pytest.mark.parametrize("shape", [(24, 224), (24, 176)])
@pytest.mark.parametrize("norm", ["bn", "bn, groups of images", "gn", "ln"])
def test_features_are_normalized_as_by_xla(norm, shape):
    assert_native_equals_xlas(NORMS[norm], shape, False, True)


@pytest.mark.parametrize("shape", [(12, 3, 4, 8), (12, 2, 3, 20), (48, 40)])
@pytest.mark.parametrize("norm", ["bn", "bn, groups of images"])
def test_views_side_by_side_are_normalized_as_by_xla(norm, shape):
    options = NORMS[norm] | {"views": 2}
    assert_native_equals_xlas(options, shape, len(shape) > 2, True)


def program(dtype):
    """That of a block's end: norm, shortcut and ReLU."""
    layers = layers_for("gn_ws", kernels=choose_kernels("onednn", 1))
    params = {"scale": jnp.ones(16), "bias": jnp.zeros(16)}

    def f(x):
        return layers.relu(layers.norm().apply({"params": params}, x, True) + x)

    return str(jax.make_jaxpr(f)(jnp.ones((2, 4, 4, 16), dtype)))


def test_norm_shortcut_and_relu_are_one_call():
    found = program(jnp.float32)
    assert found.count("target_name=byol_normalize") == 1
    assert " max " not in found and " add " not in found


def test_bfloat16_is_xlas():
    assert "byol_normalize" not in program(jnp.bfloat16)


def test_the_same_call_gives_the_same_bits():
    arguments = (NORMS["bn"], (16, 8, 8, 16), True, True)
    kernels = {"kernels": choose_kernels("onednn", 1)}
    first, second = results(kernels, *arguments), results(kernels, *arguments)
    assert all(
        (a == b).all()
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    )
