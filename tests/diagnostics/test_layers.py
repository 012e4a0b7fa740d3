"""Numbers of single layers."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from byol_bnfree.diagnostics import (
    kernel_norms,
    output_measures,
    update_ratios,
    variety,
)


class TwoLayers(nn.Module):
    """A dense layer, and one that ignores its input."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4, name="fc")(x)
        return (
            nn.Dense(3, name="blind", kernel_init=nn.initializers.zeros)(x) + x[:, :3]
        )


def test_outputs_are_measured_layer_by_layer_in_the_order_of_the_layers():
    module, x = TwoLayers(), jax.random.normal(jax.random.key(0), (64, 5)) + 1
    variables = module.init(jax.random.key(1), x)
    variables["params"]["blind"]["bias"] = jnp.full(3, 2.0)
    output, layers = output_measures(module, variables, x)
    np.testing.assert_array_equal(output, module.apply(variables, x))
    assert list(layers) == ["fc", "blind"]
    np.testing.assert_allclose(layers["blind"]["rms"], 2)
    assert layers["blind"]["between_images"] == 0
    y = np.asarray(x @ variables["params"]["fc"]["kernel"])
    np.testing.assert_allclose(layers["fc"]["rms"], np.sqrt((y**2).mean()), rtol=1e-5)
    share = y.var(axis=0).mean() / (y**2).mean()
    np.testing.assert_allclose(layers["fc"]["between_images"], share, rtol=1e-5)


def test_kernels_are_found_by_the_name_of_their_layer():
    tree = {
        "encoder": {"conv1": {"kernel": jnp.full((3, 3), 2.0), "bias": jnp.ones(1)}}
    }
    assert {k: float(v) for k, v in kernel_norms(tree).items()} == {
        "encoder/conv1": 6.0
    }


def test_unit_vectors_tell_directions_from_lengths():
    lengths = jnp.arange(1.0, 5)[:, None]
    one_direction = variety(lengths * jnp.array([[3.0, 4.0]]))
    assert one_direction["between_images"] > 0.1
    np.testing.assert_allclose(one_direction["unit_between_images"], 0, atol=1e-6)
    opposite = variety(jnp.array([[2.0, 0.0], [-5.0, 0.0]]))
    np.testing.assert_allclose(opposite["unit_between_images"], 1, rtol=1e-6)


def test_unit_share_counts_all_places_of_an_image():
    maps = jax.random.normal(jax.random.key(0), (8, 4, 4, 3)) + 1
    flat = np.asarray(maps).reshape(8, -1)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    expected = 1 - np.square(unit.mean(axis=0)).sum()
    share = variety(maps)["unit_between_images"]
    np.testing.assert_allclose(share, expected, rtol=1e-5)


def test_update_ratios_count_scale_and_bias_of_a_layer_together():
    params = {
        "conv": {"kernel": jnp.full((2, 2), 2.0)},
        "norm": {"scale": jnp.full(4, 1.0), "bias": jnp.zeros(4)},
        "fc": {"bias": jnp.zeros(3)},
    }
    updates = jax.tree.map(lambda x: jnp.full_like(x, 0.1), params)
    ratios = {k: float(v) for k, v in update_ratios(params, updates).items()}
    np.testing.assert_allclose(ratios.pop("conv/kernel"), 0.05, rtol=1e-6)
    np.testing.assert_allclose(ratios.pop("norm/bias"), np.sqrt(8) * 0.1 / 2, rtol=1e-6)
    assert np.isnan(ratios.pop("fc/bias")) and not ratios
