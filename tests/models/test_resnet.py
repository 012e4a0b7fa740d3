import functools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from flax import nnx

from byol_bnfree.assembly import create_network
from byol_bnfree.config import ModelConfig, TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.models.architectures import ARCHITECTURES, Architecture
from byol_bnfree.models.encoders import create_encoder
from byol_bnfree.models.norm import NORMS, layers_for
from byol_bnfree.models.resnet import PADDINGS, ResNet
from byol_bnfree.training.state import parameter_count


def abstract_params(encoder, shape=(1, 32, 32, 3)):
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(encoder.init, jax.random.key(0), images)["params"]


@pytest.mark.parametrize(
    "name, width, millions",
    [
        ("resnet50", 1, 23.51),
        ("resnet50", 2, 93.9),
        pytest.param("resnet50", 3, 211.2, marks=pytest.mark.slow),
        pytest.param("resnet50", 4, 375.4, marks=pytest.mark.slow),
        ("resnet101", 1, 42.5),
        ("resnet152", 1, 58.1),
        ("resnet200", 1, 62.6),
        pytest.param("resnet200", 2, 250.1, marks=pytest.mark.slow),
    ],
)
def test_parameter_counts_are_the_published_ones(name, width, millions):
    count = parameter_count(abstract_params(create_encoder(name, width=width))) / 1e6
    assert round(count, 2 if millions == 23.51 else 1) == millions


# Every kind of block. The other networks have more of the same blocks.
KINDS = ("resnet14", "resnet18", "resnet50")
NAMES = [
    name
    if name.removesuffix("v2") in KINDS
    else pytest.param(name, marks=pytest.mark.slow)
    for name in ARCHITECTURES
]


@pytest.mark.parametrize("name", NAMES)
def test_every_norm_gives_the_same_parameter_tree(name):
    trees = [abstract_params(create_encoder(name, norm=norm)) for norm in NORMS]
    assert all(tree == trees[0] for tree in trees)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name, features", [("resnet14", 16), ("resnet18", 128)])
def test_any_number_of_channels_and_a_fractional_width(name, features, channels):
    encoder = create_encoder(name, width=0.25, stem="small")
    images = jnp.ones((2, 16, 16, channels))
    y, _ = jax.eval_shape(encoder.init_with_output, jax.random.key(0), images)
    assert y.shape == (2, features) and y.dtype == jnp.float32


@pytest.mark.parametrize("name", NAMES)
def test_weighted_layers_match_the_name(name):
    params = abstract_params(create_encoder(name))
    convs = [
        path
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if leaf.ndim == 4 and "shortcut" not in str(path)
    ]
    layers = int(name.removeprefix("resnet").removesuffix("v2"))
    assert len(convs) + 1 == layers  # + classifier


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_blocks_match_the_name(name):
    """Two layers in a block, three in a bottleneck; the first layer; the classifier."""
    shape = ARCHITECTURES[name]
    layers = int(name.removeprefix("resnet").removesuffix("v2"))
    assert sum(shape.blocks) * (3 if shape.bottleneck else 2) + 2 == layers


def test_every_group_begins_with_a_projection_shortcut():
    params = abstract_params(create_encoder("resnet18"))
    blocks = [k for k, v in params.items() if "shortcut_conv" in v]
    assert sorted(blocks) == [f"group{group}_block0" for group in range(4)]


@pytest.mark.parametrize("stem, size", [("imagenet", 1), ("small", 4)])
def test_stem_decides_the_size_of_the_maps(stem, size):
    encoder = create_encoder("resnet18", width=0.25, stem=stem)
    images = jnp.ones((1, 32, 32, 3))
    _, state = jax.eval_shape(
        lambda key: encoder.init_with_output(key, images, capture_intermediates=True),
        jax.random.key(0),
    )
    maps = state["intermediates"]["group3_block1"]["__call__"][0]
    assert maps.shape == (1, size, size, 128)


def test_stride_is_on_the_3x3_of_a_bottleneck():
    encoder = create_encoder("resnet50", width=0.25, stem="small")
    images = jnp.ones((1, 16, 16, 3))
    _, state = jax.eval_shape(
        lambda key: encoder.init_with_output(key, images, capture_intermediates=True),
        jax.random.key(0),
    )
    block = state["intermediates"]["group1_block0"]
    assert block["conv1"]["__call__"][0].shape[1] == 16
    assert block["conv2"]["__call__"][0].shape[1] == 8


# bn for bottlenecks: a standardized 1x1 kernel has mean 0 and does not see a constant.
BLOCKS = [(norm, False) for norm in ("bn", "gn_ws", "ws")]
BLOCKS += [("bn", True), ("gn_ws", True)]
SILENT, NEGATIVE = (0.0, 0.0), (0.0, -100.0)  # scale and bias of a norm


@functools.cache
def two_blocks(norm: str, bottleneck: bool):
    """Parameters of a block with and one without projection, and their features."""
    architecture = Architecture((2,), (16,), bottleneck, 8)
    encoder = ResNet(architecture, layers_for(norm, min_group_channels=1), stem="small")
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    variables = jax.jit(encoder.init)(jax.random.key(1), images)

    @jax.jit
    def features(params):
        changed = variables | {"params": params}
        return encoder.apply(changed, images, True, mutable=["batch_stats"])[0]

    return variables["params"], features


def with_norms(params, layer: int, scale_and_bias):
    """The norms `norm{layer}` of all blocks set."""

    def value(path, leaf):
        block, *names = (key.key for key in path)
        if not block.startswith("group") or names[0] != f"norm{layer}":
            return leaf
        return jnp.full_like(leaf, scale_and_bias[names[1] == "bias"])

    return jax.tree_util.tree_map_with_path(value, params)


@pytest.mark.parametrize("norm, bottleneck", BLOCKS)
def test_a_block_whose_branch_is_silent_passes_its_input_on(norm, bottleneck):
    params, features = two_blocks(norm, bottleneck)
    y = features(with_norms(params, 2 + bottleneck, SILENT))
    assert y.any() and not np.allclose(y[0], y[1], rtol=1e-2)


@pytest.mark.parametrize("norm, bottleneck", BLOCKS)
def test_a_block_ends_with_a_relu_after_the_sum(norm, bottleneck):
    params, features = two_blocks(norm, bottleneck)
    assert not features(with_norms(params, 2 + bottleneck, NEGATIVE)).any()


@pytest.mark.parametrize("norm, bottleneck", BLOCKS)
def test_a_relu_stands_between_the_layers_of_a_block(norm, bottleneck):
    """A layer that is negative everywhere tells the next one nothing."""
    params, features = two_blocks(norm, bottleneck)
    for layer in range(1, 2 + bottleneck):
        deaf = with_norms(params, layer, NEGATIVE)
        other = jax.tree.map(lambda leaf: leaf, deaf)
        for block in ("group0_block0", "group0_block1"):
            kernel = other[block][f"conv{layer + 1}"]["kernel"]
            other[block][f"conv{layer + 1}"]["kernel"] = -2 * kernel**2
        np.testing.assert_array_equal(features(deaf), features(other))


def test_last_scale_starts_where_told_and_only_in_bottlenecks():
    encoder = create_encoder("resnet50", width=0.25, last_scale_init=0.0)
    images = jnp.ones((1, 32, 32, 3))
    params = jax.jit(encoder.init)(jax.random.key(0), images)["params"]
    block = params["group0_block0"]
    assert not block["norm3"]["scale"].any()
    assert (block["norm2"]["scale"] == 1).all()


@pytest.mark.parametrize("norm", NORMS)
def test_bfloat16_keeps_parameters_and_features_in_float32(norm):
    encoder = create_encoder("resnet14", norm=norm, stem="small", dtype=jnp.bfloat16)
    y, variables = jax.eval_shape(
        lambda key: encoder.init_with_output(key, jnp.ones((2, 16, 16, 3)), True),
        jax.random.key(0),
    )
    assert y.dtype == jnp.float32
    leaves = jax.tree.leaves(variables)
    assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in leaves)


@pytest.mark.parametrize("width", [0.3, 0.001])
def test_width_without_whole_channels_is_refused(width):
    with pytest.raises(InputError, match="whole numbers"):
        create_encoder("resnet18", width=width)


@pytest.mark.parametrize(
    "option, value",
    [
        *(("min_group_channels", 0), ("groups", 0), ("groups", -1), ("groups", 1.5)),
        *(("stem_stride", 0), ("stem_stride", -1), ("stem_channels", -3)),
        *(("width", -1.0), ("width", float("nan")), ("last_scale_init", float("inf"))),
        *(("stat_groups", 0), ("views", 0), ("dtype", "floot"), ("dtype", "int32")),
        *(("stat_groups", 1.5), ("stat_groups", "2"), ("views", True)),
        *(("standardize_conv", "no"), ("standardize_dense", 0), ("unit_kernels", 1)),
    ],
)
def test_numbers_that_no_command_line_takes_are_refused_by_name(option, value):
    with pytest.raises(InputError, match=rf"^{option} is {value!r}; it must be"):
        create_encoder("resnet14", stem="small", norm="gn", **{option: value})


@pytest.mark.parametrize(
    "name, option, why",
    [
        ("resnet18", {"last_scale_init": 0.0}, "resnet18 has no bottleneck blocks"),
        ("resnet14", {"stem_stride": 2}, "whose strides are fixed; leave it out"),
    ],
)
def test_options_that_a_network_does_not_have_are_refused(name, option, why):
    with pytest.raises(InputError, match=why):
        create_encoder(name, **option)
    model = ModelConfig(name=name, **option)  # a recipe may serve other networks too
    create_network(TrainConfig(model=model), None)


def test_unknown_names_are_refused_with_the_choices():
    with pytest.raises(InputError, match="resnet19.*resnet18"):
        create_encoder("resnet19")
    with pytest.raises(InputError, match="imagenet or small"):
        create_encoder("resnet18", stem="tiny")


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_encoder_serves_an_nnx_program(norm):
    encoder = create_encoder("resnet14", norm=norm, stem="small")
    images = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    wrapped = nnx.bridge.ToNNX(encoder, rngs=nnx.Rngs(0)).lazy_init(images)
    gradient = nnx.grad(lambda model: model(images).sum())(wrapped)
    assert wrapped(images).shape == (2, 64)
    leaves = jax.tree.leaves(nnx.state(gradient, nnx.Param))
    assert leaves and any(np.abs(leaf).max() > 0 for leaf in leaves)


@pytest.mark.parametrize("size", range(1, 10))
@pytest.mark.parametrize("kernel", [3, 7])
def test_torch_padding_is_symmetric(size, kernel):
    """PyTorch pads both sides by half the kernel, whatever the size and stride."""
    half = kernel // 2
    x = jnp.arange(1.0, size**2 + 1).reshape(1, size, size, 1)
    weight = jnp.arange(1.0, kernel**2 + 1).reshape(kernel, kernel, 1, 1)
    layout = ("NHWC", "HWIO", "NHWC")
    ours, torchs = (
        jax.lax.conv_general_dilated(x, weight, (2, 2), padding, None, None, layout)
        for padding in (PADDINGS["torch"], ((half, half), (half, half)))
    )
    np.testing.assert_array_equal(ours, torchs)


@pytest.mark.parametrize("name", ["resnet8", "resnet18v2"])
def test_one_image_is_no_batch(name, monkeypatch):
    """Its rows would pass as images of one dimension less, as under `jax.vmap`."""
    network, key = create_encoder(name, stem="small", width=0.25), jax.random.key(0)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for users
    for method in ("__call__", "stages"):
        with pytest.raises(InputError, match=r"shape \(8, 8, 3\); give a batch"):
            network.init(key, jnp.ones((8, 8, 3)), method=method)


def test_whole_numbers_are_no_normalized_pixels(monkeypatch):
    network, key = create_encoder("resnet8", width=0.25), jax.random.key(0)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for users
    with pytest.raises(InputError, match="images are uint8; give normalized floats"):
        network.init(key, jnp.ones((1, 8, 8, 3), jnp.uint8))


def test_padding_and_shortcuts_are_options():
    images = jnp.ones((1, 32, 32, 3)).at[0, 0].set(2)
    same, torch = (
        create_encoder("resnet18", norm="gn", width=0.25, padding=padding)
        for padding in ("same", "torch")
    )
    variables = jax.jit(same.init)(jax.random.key(0), images)
    features = [net.apply(variables, images) for net in (same, torch)]
    assert jnp.abs(features[0] - features[1]).max() > 1e-3
    plain = create_encoder("resnet18", width=0.25, shortcuts="changed_shape")
    params = abstract_params(plain)
    assert "shortcut_conv" not in params["group0_block0"]
    assert "shortcut_conv" in params["group1_block0"]
    with pytest.raises(InputError, match="padding is 'valid'; choose same or torch"):
        create_encoder("resnet18", padding="valid")


@pytest.mark.parametrize(
    "option, near", [("stemm", "stem"), ("group", "groups"), ("zzz", None)]
)
def test_an_unknown_option_names_the_nearest_one(option, near):
    advice = rf"did you mean {near}\?" if near else "use name, norm, .* kernels\\."
    with pytest.raises(InputError, match=f"no option '{option}'; {advice}$"):
        create_encoder("resnet14", **{option: 1})


def test_every_stage_gives_its_maps():
    net = create_encoder("resnet50", width=0.125)
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)

    def maps(images):
        variables = net.init(jax.random.key(0), images)
        return net.apply(variables, images, method="stages")

    shapes = [leaf.shape for leaf in jax.eval_shape(maps, images)]
    assert shapes == [(2, 16, 16, 32), (2, 8, 8, 64), (2, 4, 4, 128), (2, 2, 2, 256)]


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"architecture": "resnet18"}, "create_encoder\\('resnet18'\\)"),
        ({"layers": "bn"}, "layers is of type str; give a result of layers_for"),
        ({"stem": "tiny"}, "stem is 'tiny'; choose imagenet or small"),
        ({"padding": "none"}, "padding is 'none'; choose same or torch"),
        ({"shortcuts": "no"}, "shortcuts is 'no'; choose every_group or"),
    ],
)
def test_a_network_checks_its_fields_when_it_is_made(fields, sentence, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for users
    usual = {"architecture": ARCHITECTURES["resnet18"], "layers": layers_for("bn")}
    with pytest.raises(InputError, match=sentence):
        ResNet(**usual | fields)
