"""Kernels get their initial lengths, and the network computes what it did."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

import tiny
from byol_bnfree.errors import InputError
from byol_bnfree.models.architectures import Architecture
from byol_bnfree.models.kernel_lengths import median_growth, with_initial_lengths
from byol_bnfree.models.norm import NORMS, layers_for
from byol_bnfree.models.resnet import ResNet

IMAGES = jax.random.normal(jax.random.key(3), (8, 8, 8, 3))
SHAPES = {
    "basic": Architecture((1, 1), (16, 32), False, 16),
    "bottleneck": Architecture((1, 1), (64, 128), True, 16),
    "basic v2": Architecture((1, 1), (16, 32), False, 16, True),
    "bottleneck v2": Architecture((1, 1), (64, 128), True, 16, True),
}


def grown(norm, shape, factors=(2.0, 9.0)):
    """A network whose kernels are longer than at the start, each by its own factor."""
    network = ResNet(SHAPES[shape], layers_for(norm), stem="small")
    variables = network.init(jax.random.key(0), IMAGES)
    draws = np.random.default_rng(1)
    leaves = {
        path: leaf * draws.uniform(*factors) if path[-1] == "kernel" else leaf
        for path, leaf in flatten_dict(variables["params"]).items()
    }
    variables = variables | {"params": unflatten_dict(leaves)}
    for _ in range(2):  # running statistics are those of the long kernels
        _, new = network.apply(variables, IMAGES, True, mutable=["batch_stats"])
        variables = variables | new
    return network, variables


def lengths(variables):
    return {
        path: float(jnp.linalg.norm(leaf))
        for path, leaf in flatten_dict(variables["params"]).items()
        if path[-1] == "kernel"
    }


# Every norm in one shape, and every shape with the norm that has running statistics and
# with the one that has standardized kernels.
OTHERS = [
    pytest.param(norm, "bottleneck", marks=pytest.mark.slow)
    for norm in NORMS
    if norm not in ("bn", "gn_ws", "none")
]
CASES = [(norm, shape) for norm in ("bn", "gn_ws") for shape in SHAPES]


@pytest.mark.parametrize("norm, shape", [*CASES, *OTHERS])
def test_outputs_stay_and_kernels_have_the_lengths_of_the_start(norm, shape):
    network, long = grown(norm, shape)
    short = with_initial_lengths(network, long)
    for train in (False, True):
        outputs = (
            network.apply(v, IMAGES, train, mutable=["batch_stats"])[0]
            for v in (long, short)
        )
        # Epsilon weighs more beside the smaller variance of a shorter kernel.
        np.testing.assert_allclose(*outputs, rtol=2e-3, atol=2e-3)
    assert median_growth(network, long) > 2
    start = lengths(network.init(jax.random.key(5), IMAGES))
    found = lengths(short)
    free = [path for path in start if found[path] != lengths(long)[path]]
    assert len(free) == len(start) or (norm, "v2" in shape) == ("bn", True)
    for path in free:
        assert found[path] == pytest.approx(start[path], rel=0.1), path
    assert median_growth(network, short) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("shape", ["basic v2", "bottleneck v2"])
def test_a_kernel_that_ends_in_a_sum_keeps_its_length(shape):
    network, long = grown("bn", shape)
    short = lengths(with_initial_lengths(network, long))
    kept = {path for path, length in lengths(long).items() if short[path] == length}
    last = "conv3" if shape == "bottleneck v2" else "conv2"
    blocks = ("group0_block0", "group1_block0")
    ends = {(block, name) for block in blocks for name in (last, "shortcut_conv")}
    assert {path[:-1] for path in kept} == ends | {("conv1",)}


def test_a_network_without_norms_is_refused():
    network, long = grown("none", "basic", (1.0, 1.1))
    with pytest.raises(InputError, match="no norm with statistics follows"):
        with_initial_lengths(network, long)


class WithDense(ResNet):
    """A network of somebody else, with one more layer."""

    @nn.compact
    def __call__(self, images, train=False):
        return nn.Dense(4, name="fc")(super().__call__(images, train))


def unknown_norm(name=None):
    return lambda x, train: jnp.tanh(x)


LAYERS = layers_for("gn")
OWN = [
    WithDense(SHAPES["basic"], LAYERS, stem="small"),
    ResNet(SHAPES["basic"], LAYERS._replace(norm=unknown_norm), stem="small"),
    ResNet(SHAPES["basic"], LAYERS._replace(conv=nn.WeightNorm), stem="small"),
    nn.Dense(3),
]


@pytest.mark.parametrize("module", OWN, ids=["more layers", "norm", "conv", "dense"])
def test_layers_that_are_not_ours_are_refused(module):
    with pytest.raises(InputError, match="layers of its own"):
        median_growth(module, {"params": {}})


def test_a_kernel_of_zeros_stays():
    network, long = grown("gn", "basic")
    zero = jnp.zeros_like(long["params"]["conv1"]["kernel"])
    params = long["params"] | {"conv1": {"kernel": zero}}
    short = with_initial_lengths(network, long | {"params": params})
    assert not np.any(short["params"]["conv1"]["kernel"])


def test_an_encoder_keeps_its_representations():
    encoder, images = tiny.encoder("gn_ws"), tiny.batch()["image"]
    short = encoder.with_initial_lengths()
    np.testing.assert_allclose(short(images), encoder(images), rtol=1e-2, atol=1e-3)
