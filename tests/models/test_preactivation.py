"""ResNet v2: norms and ReLUs before the convolutions, and nothing after the sum."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import tiny
from byol_bnfree import create_encoder
from byol_bnfree.cpu.choice import choose_kernels
from byol_bnfree.diagnostics import batch_independence
from byol_bnfree.errors import InputError
from byol_bnfree.models.architectures import Architecture
from byol_bnfree.models.kernels import XLA
from byol_bnfree.models.norm import NORMS, layers_for
from byol_bnfree.models.resnet import ResNet
from byol_bnfree.models.standardize import weight_standardize

IMAGES = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))


def tiny_v2(norm, *, bottleneck=True, kernels=XLA, unit_kernels=False, **options):
    """Two groups. The second has a stride, and a block without a projection."""
    architecture = Architecture((1, 2), (8, 16), bottleneck, 8, preactivation=True)
    layers = layers_for(
        norm, min_group_channels=2, kernels=kernels, unit_kernels=unit_kernels
    )
    return ResNet(architecture, layers, **({"stem": "small"} | options))


@functools.cache
def drawn(norm: str, bottleneck: bool = True):
    """Variables whose norms are not the identity."""
    net = tiny_v2(norm, bottleneck=bottleneck)
    variables = jax.jit(net.init)(jax.random.key(1), IMAGES)
    leaves, tree = jax.tree.flatten(variables["params"])
    draws = np.random.default_rng(0)
    leaves = [x + 0.2 * jnp.float32(draws.normal(size=x.shape)) for x in leaves]
    return variables | {"params": jax.tree.unflatten(tree, leaves)}


def stages(net, variables, train=True):
    @jax.jit
    def maps(variables):
        options = {"method": "stages", "mutable": ["batch_stats"]}
        return net.apply(variables, IMAGES, train, **options)[0]

    return maps(variables)


def convolved(norm, x, leaves, stride, unit):
    kernel = leaves["kernel"]
    if norm in ("gn_ws", "ws"):
        fan_in = np.prod(kernel.shape[:-1])
        kernel = weight_standardize(kernel) * fan_in ** (unit / 2)
    layout = ("NHWC", "HWIO", "NHWC")
    strides = (stride, stride)
    return lax.conv_general_dilated(x, kernel, strides, "SAME", None, None, layout)


def activated(norm, x, leaves):
    """relu(norm(x))"""
    if norm not in ("none", "ws"):
        groups = {"bn": x.shape[-1], "ln": 1}.get(norm, min(16, x.shape[-1] // 2))
        cut = x.reshape(*x.shape[:3], groups, -1)
        axes = (0, 1, 2, 4) if norm == "bn" else (1, 2, 4)
        centred = cut - cut.mean(axes, keepdims=True)
        variance = jnp.square(centred).mean(axes, keepdims=True)
        x = (centred / jnp.sqrt(variance + 1e-5)).reshape(x.shape)
    scale, bias = (leaves[name][None, None, None] for name in ("scale", "bias"))
    return jnp.maximum(x * scale + bias, 0)


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def as_in_the_paper(norm, variables, bottleneck, unit=False):
    """The last map of `tiny_v2`, as equations without Flax."""
    params, last = variables["params"], 2 + bottleneck
    x = convolved(norm, IMAGES, params["conv1"], 1, unit)
    for group, index, stride in [(0, 0, 1), (1, 0, 2), (1, 1, 1)]:
        block = params[f"group{group}_block{index}"]
        y = activated(norm, x, block["norm1"])
        if index == 0:
            x = convolved(norm, y, block["shortcut_conv"], stride, unit)
        for layer in range(1, last + 1):
            y = activated(norm, y, block[f"norm{layer}"]) if layer > 1 else y
            here = stride if layer == last - 1 else 1
            y = convolved(norm, y, block[f"conv{layer}"], here, unit)
        x = x + y
    return activated(norm, x, params["final_norm"])


def assert_near(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_the_network_is_that_of_the_paper(norm, bottleneck):
    variables, net = drawn(norm, bottleneck), tiny_v2(norm, bottleneck=bottleneck)
    last = stages(net, variables)[-1]
    assert_near(last, as_in_the_paper(norm, variables, bottleneck))
    np.testing.assert_allclose(net.pooled(last), last.mean((1, 2)), rtol=1e-5)


def test_unit_kernels_are_those_of_weight_standardization_itself():
    variables = drawn("gn_ws")
    expected = as_in_the_paper("gn_ws", variables, True, True)
    assert_near(stages(tiny_v2("gn_ws", unit_kernels=True), variables)[-1], expected)
    usual = stages(tiny_v2("gn_ws"), variables)[-1]
    assert np.abs(usual - expected).max() > 1e-2
    pickle.loads(pickle.dumps(layers_for("gn_ws", unit_kernels=True).conv))


def test_every_norm_has_the_same_parameters_and_no_shortcut_has_a_norm():
    trees = [
        jax.eval_shape(tiny_v2(norm).init, jax.random.key(0), IMAGES)["params"]
        for norm in NORMS
    ]
    assert all(tree == trees[0] for tree in trees)
    assert "norm1" not in trees[0] and "final_norm" in trees[0]
    assert not any("shortcut_norm" in block for block in trees[0].values())


@pytest.mark.parametrize("norm", tiny.norms("gn_ws"))
def test_only_batchnorm_depends_on_the_rest_of_the_batch(norm):
    net, variables = tiny_v2(norm), drawn(norm)

    def features(images):
        return net.apply(variables, images, True, mutable=["batch_stats"])[0]

    assert batch_independence(features, IMAGES).holds == (norm != "bn")


@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
@pytest.mark.parametrize("wanted", ["onednn", "xla"])
def test_fast_kernels_compute_the_same_and_the_same_gradient(norm, wanted):
    try:
        kernels = choose_kernels(wanted, 1)
    except InputError as error:
        pytest.skip(str(error))
    variables = drawn(norm)
    stem = {"kernel": jax.random.normal(jax.random.key(5), (7, 7, 3, 8))}

    @functools.partial(jax.jit, static_argnums=1)
    @jax.value_and_grad
    def loss(params, kernels):
        net = tiny_v2(norm, stem="imagenet", padding="bit", kernels=kernels)
        changed = variables | {"params": params}
        y, _ = net.apply(changed, IMAGES, True, mutable=["batch_stats"])
        return (y * jnp.arange(16.0)[None]).sum()

    params = variables["params"] | {"conv1": stem}
    ours, plain = (loss(params, k) for k in (kernels, XLA))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        # A standardized kernel of two numbers has no gradient but rounding.
        np.testing.assert_allclose(a, b, atol=1e-3 * max(np.abs(b).max(), 0.1))


@pytest.mark.parametrize("size", [7, 8])
def test_bit_pads_its_max_pool_with_zeros(size):
    """Where all pixels are negative, edges that a window leaves are zero."""
    images = -jnp.ones((1, 2 * size, 2 * size, 1))
    kernel = jnp.zeros((7, 7, 1, 8)).at[3, 3].set(1.0)
    negated = {"scale": -jnp.ones(8), "bias": jnp.zeros(8)}
    params = {"conv1": {"kernel": kernel}, "final_norm": negated}
    no_blocks = Architecture((0,), (8,), False, 8, preactivation=True)

    def stem(padding):
        net = ResNet(no_blocks, layers_for("none"), padding=padding)
        return -net.apply({"params": params}, images, method="stages")[0][0, ..., 0]

    torch, bit = stem("torch"), stem("bit")
    assert (torch == -1).all() and bit.shape == torch.shape
    assert not bit[0].any() and not bit[:, 0].any()
    # At an even size the windows end with the last pixel.
    assert (bit[-1, 1:-1] == (0 if size % 2 else -1)).all()


@pytest.mark.parametrize("stem, stride", [("small", 1), ("imagenet", 4)])
def test_the_larger_map_of_a_dilated_network_holds_the_smaller_one(stem, stride):
    net = tiny_v2("bn", stem=stem, padding="bit")
    variables = jax.jit(net.init)(jax.random.key(0), IMAGES)
    plain = stages(net, variables, train=False)
    large = stages(net.with_output_stride(stride), variables, train=False)
    for small, dilated in zip(plain, large, strict=True):
        every = -(-dilated.shape[1] // small.shape[1])
        np.testing.assert_allclose(dilated[:, ::every, ::every], small, atol=1e-5)


def test_a_scale_that_no_block_ends_with_is_refused():
    with pytest.raises(InputError, match="ends with a convolution"):
        create_encoder("resnet50v2", last_scale_init=0.0)


@pytest.mark.parametrize("norm", NORMS)
def test_unit_kernels_are_refused_where_they_would_do_nothing_or_overflow(norm):
    plain = {"standardize_conv": False} if norm == "gn_ws" else {}
    with pytest.raises(InputError, match="use gn_ws with standardized kernels"):
        layers_for(norm, unit_kernels=True, **plain)
