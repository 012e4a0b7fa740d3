import copy
import inspect
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax import lax

import tiny
from byol_bnfree.cpu.choice import ONEDNN
from byol_bnfree.errors import InputError
from byol_bnfree.models.batch_norm import BatchNorm
from byol_bnfree.models.encoders import create_encoder
from byol_bnfree.models.initializers import fan_in_init
from byol_bnfree.models.kernels import XLA
from byol_bnfree.models.norm import (
    NORMS,
    GroupNorm,
    NormOptions,
    group_count,
    layers_for,
)
from byol_bnfree.models.standardize import weight_standardize
from byol_bnfree.models.standardized_layers import StdConv, StdDense

BATCH_FREE = [norm for norm in NORMS if norm != "bn"]


def test_layers_and_encoders_of_the_same_arguments_are_equal():
    """So a network that is a static argument of a compiled function compiles once."""
    for norm in NORMS:
        assert layers_for(norm) == layers_for(norm)
        first, again = (create_encoder("resnet8", norm=norm) for _ in range(2))
        assert first == again and hash(first) == hash(again)


def images(batch: int = 4, channels: int = 16) -> jax.Array:
    return 3 + 2 * jax.random.normal(jax.random.key(0), (batch, 5, 5, channels))


@pytest.mark.parametrize("shape", [(3, 3, 8, 6), (20, 5)])
def test_standardized_kernel_has_mean_0_and_variance_1_over_fan_in(shape):
    kernel = weight_standardize(7 + fan_in_init(jax.random.key(0), shape))
    units = np.asarray(kernel).reshape(-1, shape[-1])
    np.testing.assert_allclose(units.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(units.var(0) * len(units), 1, rtol=1e-3)


def test_standardization_is_float32_and_finite_for_a_constant_kernel():
    kernel = jnp.ones((3, 3, 2, 4), jnp.bfloat16)
    value, gradient = jax.value_and_grad(lambda k: weight_standardize(k).sum())(kernel)
    assert weight_standardize(kernel).dtype == jnp.float32
    assert jnp.isfinite(value) and jnp.all(jnp.isfinite(gradient))


KEYS = jax.random.split(jax.random.key(0), 4)


@pytest.mark.parametrize(
    "kernel, sentence",
    [
        (None, "kernel is of type NoneType; give an array"),
        ("a", "kernel is of type str; give an array"),
        (np.array(["a", "b"]), "kernel is <U1; give an array of floats"),
        (jnp.ones((4, 2), complex), "kernel is complex64; give an array of floats"),
        (jnp.ones((4, 2), int), "kernel is int32; give an array of floats"),
        (KEYS, "kernel is key<fry>; give an array of floats"),
    ],
)
def test_only_arrays_of_floats_are_standardized(kernel, sentence):
    with pytest.raises(InputError, match=sentence):
        inspect.unwrap(weight_standardize)(kernel)


@pytest.mark.parametrize(
    "epsilon", [-1.0, float("nan"), float("inf"), None, "1", 1j, jnp.ones(2)]
)
def test_epsilon_is_a_number_of_at_least_0(epsilon):
    untyped, kernel = inspect.unwrap(weight_standardize), images()
    with pytest.raises(InputError, match="epsilon is .*; give one finite number of at"):
        untyped(kernel, epsilon)
    constant = jnp.float32(0.1)
    found = jax.jit(lambda kernel, e: untyped(kernel, e) - untyped(kernel, constant))
    np.testing.assert_array_equal(found(kernel, 0.1), 0)


@pytest.mark.parametrize("norm", NORMS)
def test_only_ws_variants_standardize_kernels(norm):
    layers, x = layers_for(norm), images()
    conv = layers.conv(8, (3, 3))
    variables = conv.init(jax.random.key(1), x)
    shifted = jax.tree.map(lambda kernel: 5 * kernel + 1, variables)
    invariant = jnp.allclose(conv.apply(variables, x), conv.apply(shifted, x), 1e-3)
    assert bool(invariant) == (norm in ("gn_ws", "ws"))


@pytest.mark.parametrize("norm", ["gn_ws", "ws"])
def test_either_kind_of_kernel_can_be_left_unstandardized(norm):
    plain = layers_for("bn")
    assert layers_for(norm, standardize_conv=False).conv.func is plain.conv.func
    assert layers_for(norm, standardize_dense=False).dense.func is plain.dense.func


UNDOING = {
    "conv": {
        "mask": jnp.ones((3, 3, 16, 8)),
        "promote_dtype": promote_dtype,
        "conv_general_dilated": lax.conv_general_dilated,
        "conv_general_dilated_cls": lambda: lax.conv_general_dilated,
    },
    "dense": {
        "promote_dtype": promote_dtype,
        "dot_general": lax.dot_general,
        "dot_general_cls": lambda: lax.dot_general,
    },
}
ARGUMENTS = [(layer, name) for layer in UNDOING for name in UNDOING[layer]]


@pytest.mark.parametrize("layer, name", ARGUMENTS)
def test_arguments_that_undo_standardization_are_refused_where_it_is(layer, name):
    given, sizes = {name: UNDOING[layer][name]}, (8, (3, 3))[: 2 - (layer == "dense")]
    own = {"conv": StdConv, "dense": StdDense}[layer]
    for make in (own, *(getattr(layers_for(n), layer) for n in ("gn_ws", "ws"))):
        with pytest.raises(InputError, match=rf"^{name} was given to a {layer} layer"):
            make(*sizes, **given)
    plain = getattr(layers_for("gn"), layer)(*sizes, **given)
    assert jax.eval_shape(plain.init_with_output, jax.random.key(0), images())


@pytest.mark.parametrize("unit_kernels", [False, True])
def test_copies_of_a_standardized_layer_are_equal_to_it(unit_kernels):
    layers = layers_for("gn_ws", unit_kernels=unit_kernels)
    layer, x = layers.conv(8, (3, 3)), images()
    y, variables = layer.init_with_output(jax.random.key(0), x)
    pickled = pickle.loads(pickle.dumps(layer))
    lifted = nn.remat(layers.conv.func)(8, (3, 3), **layers.conv.keywords)
    for other in (layer.clone(), copy.deepcopy(layer), pickled, lifted):
        np.testing.assert_allclose(other.apply(variables, x), y, rtol=1e-6)


@pytest.mark.parametrize("norm", BATCH_FREE)
@pytest.mark.parametrize("shape", [(4, 5, 5, 16), (4, 16)])
def test_row_does_not_depend_on_the_rest_of_the_batch(norm, shape):
    x = jax.random.normal(jax.random.key(0), shape)
    module = layers_for(norm).norm()
    variables = module.init(jax.random.key(1), x, True)
    changed = x.at[1:].set(100.0)
    before, after = (module.apply(variables, v, True)[0] for v in (x, changed))
    np.testing.assert_array_equal(before, after)


def test_group_norm_normalizes_each_group_of_each_example():
    x = images(channels=32)
    module = GroupNorm(max_groups=4, min_channels=4)
    y = module.apply(module.init(jax.random.key(0), x, True), x, True)
    grouped = np.asarray(y).reshape(4, 25, 4, 8)
    np.testing.assert_allclose(grouped.mean((1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(grouped.var((1, 3)), 1, rtol=1e-3)


@pytest.mark.parametrize(
    "channels, groups", [(4, 1), (16, 4), (32, 8), (64, 16), (512, 16), (2, 1)]
)
def test_groups_are_at_most_16_and_never_thinner_than_4_channels(channels, groups):
    assert group_count(channels, 16, 4) == groups


def test_channels_that_the_groups_do_not_divide_are_refused():
    with pytest.raises(InputError, match="72 channels cannot be cut into 16"):
        group_count(72, 16, 4)


def test_unknown_norm_is_refused_with_the_choices():
    with pytest.raises(InputError, match="gnws.*bn, gn_ws, gn, ws, ln, none"):
        layers_for("gnws")


def test_functions_hand_on_every_argument_of_layers_for_but_their_own():
    parameters = inspect.get_annotations(layers_for)
    own = {"norm", "dtype", "return"}
    handed = {name: kind for name, kind in parameters.items() if name not in own}
    assert handed == inspect.get_annotations(NormOptions)


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_takes_a_batch_of_floats_only(norm):
    module = layers_for(norm).norm()
    variables = module.init(jax.random.key(0), jnp.ones((1, 16)))
    for x in (jnp.ones(16), jnp.ones(())):
        with pytest.raises(
            InputError, match=r"has shape .*; give a batch \[b \.\.\. c"
        ):
            module.apply(variables, x)
    for dtype in (jnp.int32, jnp.uint8, bool):
        with pytest.raises(InputError, match="input of a norm is .*; give floats"):
            module.apply(variables, jnp.ones((1, 16), dtype))


def test_batch_norm_has_no_statistics_of_an_empty_batch():
    with pytest.raises(InputError, match="the batch is empty"):
        batch_norm(jnp.ones((0, 16)))


@pytest.mark.parametrize("shape", [(1, 16), (1, 1, 1, 16), (4, 16)])
def test_batch_norm_has_no_statistics_of_one_value(shape):
    """The output would be the bias, whatever the input."""
    with pytest.raises(InputError, match="each statistic .* has one value"):
        batch_norm(jnp.ones(shape), stat_groups=shape[0])
    batch_norm(jnp.ones((1, 2, 2, 16)))


def batch_norm(x, **fields):
    module = BatchNorm(**fields)
    variables = module.init(jax.random.key(0), x, True)
    y, updated = module.apply(variables, x, True, mutable=["batch_stats"])
    return module, y, variables | updated


def test_running_statistics_after_one_batch_are_the_batch_statistics():
    x = images()
    module, y, variables = batch_norm(x)
    inference = module.apply(variables, x, False)
    np.testing.assert_allclose(inference, y, rtol=1e-4, atol=1e-4)


def test_running_statistics_decay_by_nine_tenths_with_zero_debias():
    module, _, variables = batch_norm(jnp.full((4, 2), 1.0))
    _, updated = module.apply(
        variables, jnp.full((4, 2), 3.0), True, mutable=["batch_stats"]
    )
    stats = updated["batch_stats"]
    average = stats["mean"] / (1 - 0.9 ** stats["count"])
    np.testing.assert_allclose(average, (0.9 * 0.1 * 1 + 0.1 * 3) / 0.19, rtol=1e-6)


def test_inference_before_any_update_changes_nothing_but_epsilon():
    x = images()
    module = BatchNorm()
    variables = module.init(jax.random.key(0), x, True)
    np.testing.assert_allclose(module.apply(variables, x, False), x, rtol=1e-4)


def test_statistics_groups_equal_separate_batches():
    x = images(batch=8) * jnp.arange(8.0)[:, None, None, None]
    _, grouped, variables = batch_norm(x, stat_groups=2)
    parts = [batch_norm(half) for half in (x[:4], x[4:])]
    separate = jnp.concatenate([y for _, y, _ in parts])
    np.testing.assert_allclose(grouped, separate, rtol=1e-5, atol=1e-5)
    means = [v["batch_stats"]["mean"] for _, _, v in parts]
    np.testing.assert_allclose(
        variables["batch_stats"]["mean"], sum(means) / 2, rtol=1e-5
    )


@pytest.mark.parametrize("stat_groups", [1, 2])
@pytest.mark.parametrize("shape", [(8, 3, 3, 4), (8, 5)])
def test_views_side_by_side_equal_one_pass_after_another(shape, stat_groups):
    views = jax.random.normal(jax.random.key(0), (2, *shape))
    views *= jnp.array([1.0, 5.0]).reshape(2, *(1,) * len(shape))
    module = BatchNorm(stat_groups=stat_groups)
    together = BatchNorm(stat_groups=stat_groups, views=2)
    variables = module.init(jax.random.key(0), views[0], True)
    apply = partial(module.apply, mutable=["batch_stats"])
    expected = []
    for view in views:
        y, updated = apply(variables, view, True)
        variables |= updated
        expected.append(y)
    fresh = module.init(jax.random.key(0), views[0], True)
    joined = rearrange(views, "v b ... -> (b v) ...")
    y, updated = together.apply(fresh, joined, True, mutable=["batch_stats"])
    found = rearrange(y, "(b v) ... -> v b ...", v=2)
    np.testing.assert_allclose(found, jnp.stack(expected), rtol=1e-4, atol=1e-5)
    tiny.assert_close(updated["batch_stats"], variables["batch_stats"])


def test_initializer_is_truncated_normal_without_correction():
    kernel = fan_in_init(jax.random.key(0), (3, 3, 64, 512))
    sigma = 1 / np.sqrt(3 * 3 * 64)
    assert abs(kernel).max() <= 2 * sigma
    np.testing.assert_allclose(kernel.std(), 0.87963 * sigma, rtol=1e-2)


@pytest.mark.parametrize("shape", [(4,), (1, 8), (1, 1, 1, 8)])
@pytest.mark.parametrize("kernels", [XLA, ONEDNN], ids=["xla", "onednn"])
def test_an_output_of_one_weight_cannot_be_standardized(shape, kernels):
    """Its only weight minus the mean would be zero, and so would the output."""
    with pytest.raises(InputError, match="one weight minus its mean is zero"):
        weight_standardize(jnp.ones(shape))
    layers = layers_for("gn_ws", kernels=kernels)
    layer, x = layers.dense(8), jnp.ones((2, 1))
    if len(shape) == 4:
        layer, x = layers.conv(8, (1, 1)), jnp.ones((2, 4, 4, 1))
    with pytest.raises(InputError, match="one weight minus its mean is zero"):
        layer.init(jax.random.key(0), x)
