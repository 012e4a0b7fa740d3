"""Dilation in the last groups: larger maps of the same network."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import tiny
from byol_bnfree import create_encoder
from byol_bnfree.errors import InputError
from byol_bnfree.models.architectures import Architecture
from byol_bnfree.models.kernels import XLA, by_standardized
from byol_bnfree.models.norm import NORMS, layers_for
from byol_bnfree.models.resnet import ResNet

IMAGES = jax.random.normal(jax.random.key(3), (2, 16, 16, 3))


def tiny_resnet(norm: str, *, kernels=XLA, bottleneck=False, **options) -> ResNet:
    """A network of three groups with few channels."""
    architecture = Architecture((1, 1, 2), (8, 8, 16), bottleneck, 8)
    layers = layers_for(norm, min_group_channels=2, kernels=kernels)
    return ResNet(architecture, layers, **({"stem": "small"} | options))


def maps_and_variables(net, variables=None, train=False):
    if variables is None:
        variables = jax.jit(net.init)(jax.random.key(0), IMAGES)
    apply = jax.jit(
        lambda v: net.apply(v, IMAGES, train, method="stages", mutable=["batch_stats"])
    )
    return apply(variables)[0], variables


def with_zeros_between(lhs, rhs, strides, padding, lhs_dilation, rhs_dilation, **rest):
    """A convolution whose dilation is written into the kernel, as zeros."""
    rows, columns = rhs_dilation or (1, 1)
    kh, kw, *channels = rhs.shape
    size = (kh - 1) * rows + 1, (kw - 1) * columns + 1, *channels
    spread = jnp.zeros(size, rhs.dtype).at[::rows, ::columns].set(rhs)
    return lax.conv_general_dilated(lhs, spread, strides, padding, lhs_dilation, **rest)


SPREAD = XLA._replace(
    conv=with_zeros_between, std_conv=partial(by_standardized, with_zeros_between)
)


@pytest.mark.parametrize("norm", NORMS)
def test_dilation_equals_kernels_with_zeros_between(norm):
    def network(kernels):
        bottleneck = norm in ("bn", "gn_ws")
        net = tiny_resnet(norm, bottleneck=bottleneck, kernels=kernels)
        return net.with_output_stride(1)

    ours, variables = maps_and_variables(network(XLA))
    spread, _ = maps_and_variables(network(SPREAD), variables)
    assert [m.shape[1] for m in ours] == [16, 16, 16]
    tiny.assert_close(ours, spread)


@pytest.mark.parametrize("padding", ["same", "torch"])
@pytest.mark.parametrize("stem, stride", [("small", 1), ("small", 2), ("imagenet", 8)])
def test_the_larger_map_holds_the_smaller_one(padding, stem, stride):
    """BatchNorm in inference mode takes no statistics of the map, so this is exact."""
    net = tiny_resnet("bn", stem=stem, padding=padding)
    plain, variables = maps_and_variables(net)
    large, _ = maps_and_variables(net.with_output_stride(stride), variables)
    for small, dilated in zip(plain, large, strict=True):
        every = -(-dilated.shape[1] // small.shape[1])
        np.testing.assert_allclose(dilated[:, ::every, ::every], small, atol=1e-5)
    assert large[-1].shape[1] == 16 // stride


def test_the_stride_changes_no_parameter():
    net = tiny_resnet("gn_ws")
    trees = [
        jax.eval_shape(n.init, jax.random.key(0), IMAGES)
        for n in (net, net.with_output_stride(1))
    ]
    assert jax.tree.all(jax.tree.map(lambda a, b: a.shape == b.shape, *trees))


def test_total_strides_and_impossible_ones():
    large = create_encoder("resnet50", width=0.125)
    assert large.total_stride == 32
    strides = [large.with_output_stride(s).total_stride for s in (4, 8, 16, 32, 64)]
    assert strides == [4, 8, 16, 32, 32]
    cifar = create_encoder("resnet14", stem="small", stem_stride=2)
    assert cifar.total_stride == cifar.with_output_stride(16).total_stride == 8
    for stride in (2, 12):
        with pytest.raises(InputError, match=f"stride {stride} .* stem has stride 4"):
            large.with_output_stride(stride)


@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_an_encoder_returns_larger_maps_on_request(norm):
    encoder = tiny.encoder(norm)
    images = np.zeros((1, 16, 16, 3), np.uint8)
    plain, pooled = encoder.feature_maps(images)
    dense, _ = encoder.feature_maps(images, output_stride=1)
    assert [m.shape[1] for m in plain] == [16, 8] and pooled.shape == (1, 16)
    assert [m.shape[1] for m in dense] == [16, 16]
