"""Numbers of single layers."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from byol_bnfree.diagnostics import kernel_norms, output_measures


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
