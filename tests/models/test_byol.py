import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import tiny
from byol_bnfree.assembly import create_network
from byol_bnfree.config import TrainConfig, ViewsConfig
from byol_bnfree.errors import InputError
from byol_bnfree.models.batch_norm import BatchNorm
from byol_bnfree.models.norm import NORMS, GroupNorm
from byol_bnfree.settings.norms import part_norms
from byol_bnfree.training.data_dependent import data_dependent_init

IMAGES = jax.random.normal(jax.random.key(0), (8, 8, 8, 3))


def initialized(cfg):
    network = tiny.network(cfg)
    return network, jax.jit(network.init)(jax.random.key(1), IMAGES)


@pytest.mark.parametrize("norm", NORMS)
def test_predictions_depend_on_other_images_only_under_bn(norm):
    network, variables = initialized(tiny.config(norm=norm))
    params, stats = variables.online_params, variables.online_stats

    @jax.jit
    def predict(images):
        return network.online(params, stats, images, True)[0].prediction[0]

    same = np.array_equal(predict(IMAGES), predict(IMAGES.at[1:].multiply(3)))
    assert same == (norm != "bn")


@pytest.mark.parametrize("norm", NORMS)
def test_features_do_not_depend_on_other_images_in_inference(norm):
    network, variables = initialized(tiny.config(norm=norm))

    @jax.jit
    def features(images):
        return network.representation(
            variables.online_params, variables.online_stats, images
        )[0]

    np.testing.assert_array_equal(features(IMAGES), features(IMAGES.at[1:].multiply(3)))


@pytest.mark.parametrize("part", ["encoder", "projector"])
def test_no_two_norms_of_the_tiny_network_are_one(part):
    """Or tests of every norm would repeat each other, as with groups of one."""
    _, variables = initialized(tiny.config(norm="none"))
    x = IMAGES if part == "encoder" else jnp.reshape(IMAGES, (-1, 16))

    def output(norm):
        module = getattr(tiny.network(tiny.config(norm=norm)), part)
        given = {"params": variables.online_params[part]}
        return module.apply(given, x, True, mutable=["batch_stats"])[0]

    outputs = np.stack([np.ravel(output(norm)) for norm in NORMS])
    apart = np.abs(outputs[:, None] - outputs[None]).max(-1)
    assert (apart[~np.eye(len(NORMS), dtype=bool)] > 0.01).all()


def test_each_part_takes_its_own_norm():
    cfg = tiny.config(norm="gn_ws", encoder_norm="bn", predictor_norm="none")
    assert part_norms(cfg) == {
        "encoder": "bn",
        "projector": "gn_ws",
        "predictor": "none",
    }
    network = create_network(cfg, None)
    assert network.encoder.layers.norm.func is BatchNorm
    assert network.projector.layers.norm.func is GroupNorm
    _, variables = initialized(cfg)
    assert set(variables.online_stats) == {"encoder"}


def test_online_and_target_start_from_different_draws():
    _, variables = initialized(tiny.config())
    kernels = (
        tree["encoder"]["conv1"]["kernel"]
        for tree in (variables.online_params, variables.target_params)
    )
    assert not np.allclose(*kernels)


def test_a_copied_target_can_be_donated_with_the_online_network():
    variables = tiny.network(tiny.config()).init(jax.random.key(1), IMAGES, "copy")
    np.testing.assert_array_equal(
        variables.online_params["encoder"]["conv1"]["kernel"],
        variables.target_params["encoder"]["conv1"]["kernel"],
    )
    jax.jit(lambda v: jax.tree.map(lambda x: x + 1, v), donate_argnums=0)(variables)


def test_all_parameters_are_float32_in_x64_mode():
    network = tiny.network(tiny.config())
    with jax.enable_x64(True):
        found = jax.eval_shape(network.init, jax.random.key(1), IMAGES)
    params = (found.online_params, found.target_params)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_target_has_encoder_and_projector_only():
    _, variables = initialized(tiny.config())
    assert set(variables.target_params) == {"encoder", "projector"}


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_head_depth_counts_dense_layers_and_only_the_last_has_no_bias(depth):
    head = tiny.HeadConfig(hidden=16, out=8, depth=depth)
    model = tiny.ModelConfig(name="resnet14", projector=head, predictor=head)
    _, variables = initialized(tiny.config(model=model))
    dense = {
        name: set(layer)
        for name, layer in variables.online_params["projector"].items()
        if name.startswith("fc")
    }
    assert len(dense) == depth
    assert dense.pop(f"fc{depth}") == {"kernel"}
    assert all(names == {"kernel", "bias"} for names in dense.values())


@pytest.mark.parametrize("norm", ["bn", "gn_ws", "ws"])
def test_heads_have_a_relu_after_the_norm_and_none_at_the_end(norm):
    head = tiny.network(tiny.config(norm=norm)).projector
    x = jax.random.normal(jax.random.key(2), (8, 16))
    variables = jax.jit(head.init, static_argnums=2)(jax.random.key(1), x, True)

    @jax.jit
    def output(bias):
        params = jax.tree.map(lambda leaf: leaf, variables["params"])
        params["norm1"]["bias"] = jnp.full_like(params["norm1"]["bias"], bias)
        changed = variables | {"params": params}
        return head.apply(changed, x, True, mutable=["batch_stats"])[0]

    assert not output(-100.0).any()
    assert output(0.0).min() < 0 < output(0.0).max()


def test_data_dependent_init_reproduces_the_normalized_network_on_its_batch():
    # The tiny encoder does not fit `create_network`; resnet14 of width 0.25 does.
    model = tiny.ModelConfig(
        name="resnet14", width=0.25, projector=tiny.HEAD, predictor=tiny.HEAD
    )
    cfg = tiny.config(norm="none", init="data_dependent", model=model)
    network = create_network(cfg, tiny.CLASSES)
    normalized = create_network(tiny.config(norm="bn", model=model), tiny.CLASSES)
    stats = jax.jit(normalized.init)(jax.random.key(1), IMAGES).online_stats

    @jax.jit
    def compare(key):
        variables = network.init(key, IMAGES)
        params = variables.online_params
        reference, _ = normalized.online(params, stats, IMAGES, True)
        fitted = data_dependent_init(cfg, variables, IMAGES)
        plain, _ = network.online(params, {}, IMAGES, True)
        out, _ = network.online(fitted.online_params, {}, IMAGES, True)
        return reference, plain, out

    reference, plain, out = compare(jax.random.key(1))
    np.testing.assert_allclose(
        out.prediction, reference.prediction, rtol=1e-2, atol=1e-3
    )
    assert not np.allclose(plain.prediction, reference.prediction, rtol=0.1)


class Ignoring(nn.Module):
    """An encoder that uses none of our layers, but a BatchNorm of Flax."""

    @nn.compact
    def __call__(self, images, train):
        x = nn.Dense(8)(images.mean((1, 2)))
        return nn.BatchNorm(use_running_average=not train)(x)


@pytest.mark.slow
def test_data_dependent_init_is_that_of_the_whole_batch_with_micro_batches():
    heads = {"projector": tiny.HEAD, "predictor": tiny.HEAD}
    model = tiny.ModelConfig(name="resnet8", width=0.25, **heads)
    cfg = tiny.config(norm="none", init="data_dependent", model=model)
    variables = create_network(cfg, tiny.CLASSES).init(jax.random.key(1), IMAGES)
    fit = jax.jit(data_dependent_init, static_argnums=0)
    cut = dataclasses.replace(cfg, micro_batches=2)
    tiny.assert_close(fit(cut, variables, IMAGES), fit(cfg, variables, IMAGES))


def test_data_dependent_init_leaves_parts_without_layers_of_ours():
    linear = dataclasses.replace(tiny.HEAD, depth=1)
    model = tiny.ModelConfig(projector=tiny.HEAD, predictor=linear)
    cfg = tiny.config(norm="none", init="data_dependent", model=model)
    variables = create_network(cfg, None, encoder=Ignoring()).init(
        jax.random.key(1), IMAGES
    )
    fitted = data_dependent_init(cfg, variables, IMAGES, Ignoring())
    for part in ("encoder", "predictor"):
        tiny.assert_close(fitted.online_params[part], variables.online_params[part])
    before, after = (
        v.online_params["projector"]["norm1"]["scale"] for v in (variables, fitted)
    )
    assert not np.allclose(before, after)


def test_data_dependent_init_fits_the_predictor_of_small_views_too():
    model = tiny.ModelConfig(projector=tiny.HEAD, predictor=tiny.HEAD)
    views = ViewsConfig(small=2, small_size=4, small_predictor="own")
    cfg = tiny.config(norm="none", init="data_dependent", model=model, views=views)
    network = create_network(cfg, None, encoder=Ignoring())
    variables = network.init(jax.random.key(1), IMAGES)
    fitted = data_dependent_init(cfg, variables, IMAGES, Ignoring())
    hidden = []
    for part in ("predictor", "small_predictor"):
        out, _ = network.online(
            fitted.online_params, fitted.online_stats, IMAGES, True, part
        )
        layers = jax.tree.map(np.asarray, fitted.online_params[part])
        x = np.asarray(out.projection) @ layers["fc1"]["kernel"] + layers["fc1"]["bias"]
        x = x * layers["norm1"]["scale"] + layers["norm1"]["bias"]
        np.testing.assert_allclose(x.mean(0), 0, atol=1e-3)
        np.testing.assert_allclose(x.std(0), 1, atol=1e-2)
        hidden.append(x)
    assert not np.allclose(*hidden)


def test_options_that_have_no_effect_are_refused():
    with pytest.raises(InputError, match="data_dependent"):
        tiny.config(norm="gn_ws", init="data_dependent")
    with pytest.raises(InputError, match="bn.stat.groups"):
        tiny.config(norm="gn_ws", bn_stat_groups=2)
    with pytest.raises(InputError, match="micro.batches"):
        tiny.config(norm="bn", micro_batches=2)


def test_outputs_of_a_bfloat16_network_are_float32():
    network = tiny.network(tiny.config(compute_dtype="bfloat16"))
    variables = jax.eval_shape(network.init, jax.random.key(0), IMAGES)
    outputs, _ = jax.eval_shape(
        lambda v: network.online(v.online_params, v.online_stats, IMAGES, True),
        variables,
    )
    assert {leaf.dtype for leaf in outputs} == {jnp.dtype("float32")}


def test_heads_can_have_an_output_bias_and_plain_layers():
    from byol_bnfree.models.standardize import weight_standardize

    base = tiny.config(norm="gn_ws")
    head = dataclasses.replace(tiny.HEAD, output_bias=True, plain_dense=(1,))
    model = dataclasses.replace(base.model, predictor=head)
    module = create_network(dataclasses.replace(base, model=model), 3).predictor
    z = jax.random.normal(jax.random.key(0), (4, 8))
    params = module.init(jax.random.key(1), z, False)["params"]
    assert set(params["fc2"]) == {"kernel", "bias"}
    hidden = z @ params["fc1"]["kernel"]  # plain; its bias starts at 0
    groups = hidden.reshape(4, 4, 4)  # of 4 channels each
    mean, var = groups.mean(2, keepdims=True), groups.var(2, keepdims=True)
    hidden = ((groups - mean) / jnp.sqrt(var + 1e-5)).reshape(4, 16)
    expected = jax.nn.relu(hidden) @ weight_standardize(params["fc2"]["kernel"])
    found = module.apply({"params": params}, z, False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="from 1 to 2"):
        dataclasses.replace(
            base,
            model=dataclasses.replace(
                model, predictor=dataclasses.replace(head, plain_dense=(3,))
            ),
        )


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_is_that_of_every_part(norm):
    assert set(part_norms(TrainConfig(norm=norm)).values()) == {norm}
