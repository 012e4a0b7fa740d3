import inspect
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from byol_bnfree.assembly import create_network
from byol_bnfree.config import HeadConfig, ModelConfig, OptimConfig, TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.models.norm import NORMS
from byol_bnfree.training.optim import make_optimizer
from byol_bnfree.training.part_rates import decayed_mask
from byol_bnfree.training.schedules import (
    as_schedule,
    learning_rate_schedule,
    peak_learning_rate,
    tau_schedule,
    total_steps,
    warmup_steps,
)

GOLDEN = Path(__file__).parent.parent / "golden"
PRESETS = json.loads((GOLDEN / "schedules.json").read_text())


@pytest.mark.parametrize("epochs", PRESETS)
def test_schedules_are_deepminds(epochs):
    preset = PRESETS[epochs]
    config = TrainConfig(
        batch_size=preset["batch"],
        epochs=float(epochs),
        base_lr=preset["base_lr"],
        optim=OptimConfig(tau_base=preset["tau_base"], warmup_epochs=10),
    )
    total = total_steps(config, preset["examples"])
    warmup = warmup_steps(config, preset["examples"])
    assert (total, warmup) == (preset["total_steps"], preset["warmup_steps"])
    lr = learning_rate_schedule(peak_learning_rate(config), warmup, total)
    tau = tau_schedule(preset["tau_base"], total)
    steps = np.array(preset["steps"])
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(jax.vmap(lr)(steps), preset["learning_rate"], **close)
    np.testing.assert_allclose(jax.vmap(tau)(steps), preset["tau"], **close)


def test_the_target_stays_frozen_after_the_last_step():
    """DeepMind's byol/utils/schedules.py limits the step in the same way."""
    tau = tau_schedule(0.99, 100)
    assert tau(50) < tau(100) == tau(101) == tau(200) == 1


def test_a_constant_tau_has_no_ramp():
    assert tau_schedule(0.0, 10, "constant")(7) == 0 < tau_schedule(0.0, 10)(7)


def golden_tree(arrays, prefix):
    """The file's `layer/w|b|scale|offset` under our names."""
    names = {"w": "kernel", "b": "bias", "scale": "scale", "offset": "bias"}
    tree = {}
    for key in arrays.files:
        if key.startswith(prefix + "/"):
            _, layer, name = key.rsplit("/", 2)
            tree.setdefault(layer, {})[names[name]] = jnp.asarray(arrays[key])
    return tree


def test_lars_is_deepminds_over_twelve_steps():
    arrays = np.load(GOLDEN / "lars.npz")
    rates = jnp.asarray(arrays["learning_rate"])
    optim = OptimConfig(weight_decay=1e-3, trust_coefficient=1e-3, momentum=0.9)
    optimizer = make_optimizer(optim, lambda step: rates[step])
    params = golden_tree(arrays, "init")
    state = optimizer.init(params)
    steps = sorted({k.split("/")[0] for k in arrays.files if k.startswith("grad")})
    assert len(steps) == 12
    for step in steps:
        updates, state = optimizer.update(golden_tree(arrays, step), state, params)
        params = optax.apply_updates(params, updates)
        expected = golden_tree(arrays, step.replace("grad", "params"))
        for x, y in zip(
            jax.tree.leaves(params), jax.tree.leaves(expected), strict=True
        ):
            # Of the tensor's size: an entry near 0 is a difference of larger ones.
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-5 * np.abs(y).max())


@pytest.mark.parametrize("norm", NORMS)
def test_mask_takes_every_kernel_and_nothing_else(norm):
    head = HeadConfig(hidden=8, out=4, depth=3)
    model = ModelConfig(name="resnet14", projector=head, predictor=head)
    network = create_network(TrainConfig(norm=norm, model=model), num_classes=3)
    images = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), images).online_params
    expected = jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    assert decayed_mask(params) == expected


@pytest.mark.parametrize("layer", ["MyNorm_0", "RMSNorm_0", "norm1", "BATCHNORM"])
def test_mask_knows_norms_by_names_in_any_case(layer):
    """Flax itself names layers after their classes."""
    norm = {"gamma": jnp.ones(4), "weight": jnp.ones(4)}
    found = decayed_mask({"Conv_0": {"kernel": jnp.ones((2, 4))}, layer: norm})
    assert found.pop(layer) == {"gamma": False, "weight": False}
    assert found == {"Conv_0": {"kernel": True}}


def test_layers_inside_a_module_with_norm_in_its_name_have_kernels():
    """As in transformers: PreNorm is a norm and the layer after it."""
    inside = {"LayerNorm_0": {"scale": 1.0}, "Dense_0": {"kernel": 1.0, "bias": 1.0}}
    found = decayed_mask({"PreNorm_0": inside})["PreNorm_0"]
    assert found["Dense_0"] == {"kernel": True, "bias": False}
    assert found["LayerNorm_0"] == {"scale": False}


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_every_optimizer_lowers_a_loss_and_starts_at_rate_zero(name):
    schedule = learning_rate_schedule(0.1, 5, 50)
    optimizer = make_optimizer(OptimConfig(name=name, trust_coefficient=0.1), schedule)
    params = {"fc1": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    state, loss = optimizer.init(params), lambda p: optax.tree.norm(p) ** 2
    first, _ = optimizer.update(jax.grad(loss)(params), state, params)
    assert optax.tree.norm(first) == 0
    start = loss(params)
    for _ in range(50):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
    assert loss(params) < 0.8 * start


def test_learning_rate_scales_with_the_batch():
    assert peak_learning_rate(TrainConfig(base_lr=0.3, batch_size=4096)) == 4.8


def test_warmup_as_long_as_the_run_is_refused():
    config = TrainConfig(steps=10, batch_size=100, optim=OptimConfig(warmup_epochs=1))
    with pytest.raises(InputError, match="warmup-epochs"):
        warmup_steps(config, 1000)


def three_steps(optim, grads, params, rate=0.1):
    """Parameters after three steps with the same gradient."""
    optimizer = make_optimizer(optim, lambda step: rate)
    state = optimizer.init(params)
    for _ in range(3):
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


PARAMS = {
    "encoder": {
        "conv": {"kernel": jnp.ones((3, 3, 2, 4))},
        "norm1": {"bias": jnp.ones(4)},
    },
    "predictor": {"fc1": {"kernel": jnp.ones((6, 4)), "bias": jnp.ones(4)}},
}
GRADS = jax.tree.map(
    lambda x: jax.random.normal(jax.random.key(x.size), x.shape), PARAMS
)


def test_muon_moves_all_directions_of_a_kernel_equally_and_adam_the_rest():
    rate, optim = 0.1, OptimConfig(name="muon", momentum=0.95, weight_decay=0.0)
    optimizer = make_optimizer(optim, lambda step: rate)
    updates, _ = optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS)
    for kernel in (updates["encoder"]["conv"], updates["predictor"]["fc1"]):
        matrix = np.asarray(kernel["kernel"]).reshape(-1, 4)
        values = np.linalg.svd(matrix, compute_uv=False)
        # Newton-Schulz leaves singular values between 0.7 and 1.2 of their target.
        target = rate * 0.2 * np.sqrt(max(matrix.shape))
        assert np.all((values > 0.6 * target) & (values < 1.3 * target))
    nadam = optax.nadam(rate, b1=0.9)
    expected, _ = nadam.update(GRADS, nadam.init(PARAMS))
    own, other = updates["encoder"]["norm1"], expected["encoder"]["norm1"]
    np.testing.assert_allclose(own["bias"], other["bias"], rtol=1e-5)


def test_muon_leaves_vectors_and_scalars_of_any_name_to_adam():
    own = {"gamma": jnp.ones(4), "temperature": jnp.ones(()), "bias": jnp.ones(4)}
    own["kernel"] = jnp.ones(4)
    grads = jax.tree.map(lambda x: 3 * x, own)
    optim = OptimConfig(name="muon", weight_decay=0.5)
    moved = three_steps(optim, {"encoder": grads}, {"encoder": own})["encoder"]
    assert moved["bias"][0] < 1
    for name in ("gamma", "kernel"):
        np.testing.assert_allclose(moved[name], moved["bias"], rtol=1e-6)
    np.testing.assert_allclose(moved["temperature"], moved["bias"][0], rtol=1e-6)


class Attention(nn.Module):
    """Self-attention of six features with two heads, and a position for each token."""

    @nn.compact
    def __call__(self, x):
        x = x + self.param("embedding", nn.initializers.normal(), x.shape)
        return nn.MultiHeadDotProductAttention(2, name="attention")(x)


def test_muon_knows_embeddings_by_names_in_any_case():
    params = {name: jnp.ones((3, 3)) for name in ("embedding", "posEmbed")}
    grads = {name: jnp.arange(9.0).reshape(3, 3) for name in params}
    moved = three_steps(OptimConfig(name="muon"), grads, params)
    np.testing.assert_array_equal(moved["posEmbed"], moved["embedding"])


def test_muon_sees_the_matrices_of_attention_and_adam_the_embeddings():
    params = Attention().init(jax.random.key(0), jnp.ones((1, 3, 6)))["params"]
    muon = make_optimizer(OptimConfig(name="muon", weight_decay=0.0), lambda step: 1.0)
    grads = jax.tree.map(
        lambda p: jax.random.normal(jax.random.key(p.size), p.shape), params
    )
    updates = jax.jit(muon.update)(grads, muon.init(params), params)[0]
    for name, layer in updates["attention"].items():
        assert layer["kernel"].shape in ((6, 2, 3), (2, 3, 6))
        matrix = layer["kernel"].reshape(6, 6)  # [d, heads x head_dim], or back
        lengths = np.linalg.svd(matrix, compute_uv=False)
        assert lengths.min() > lengths.max() / 3, name
    # Adam's first step is as long for every number.
    moved = np.abs(updates["embedding"])
    np.testing.assert_allclose(moved, moved[0, 0, 0], rtol=1e-3)


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw", "muon"])
def test_rates_of_biases_and_of_the_predictor_multiply_the_update(name):
    plain = three_steps(OptimConfig(name=name, weight_decay=0.0), GRADS, PARAMS)
    scaled = three_steps(
        OptimConfig(name=name, weight_decay=0.0, bias_lr_scale=0.0), GRADS, PARAMS
    )
    np.testing.assert_array_equal(scaled["encoder"]["norm1"]["bias"], 1)
    np.testing.assert_array_equal(scaled["predictor"]["fc1"]["bias"], 1)
    np.testing.assert_array_equal(
        scaled["encoder"]["conv"]["kernel"], plain["encoder"]["conv"]["kernel"]
    )
    first = OptimConfig(name=name, weight_decay=0.0, predictor_lr_scale=2.0)
    one = jax.tree.map(
        lambda optim: make_optimizer(optim, lambda step: 0.1),
        [OptimConfig(name=name, weight_decay=0.0), first],
    )
    (a, _), (b, _) = (o.update(GRADS, o.init(PARAMS), PARAMS) for o in one)
    np.testing.assert_allclose(
        b["predictor"]["fc1"]["kernel"], 2 * a["predictor"]["fc1"]["kernel"], rtol=1e-5
    )
    np.testing.assert_array_equal(
        b["encoder"]["conv"]["kernel"], a["encoder"]["conv"]["kernel"]
    )


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw", "muon"])
def test_biases_decay_only_where_it_is_asked_for(name):
    zero = jax.tree.map(jnp.zeros_like, GRADS)
    for decay in (0.0, 0.5):
        optim = OptimConfig(name=name, weight_decay=0.0, bias_weight_decay=decay)
        after = three_steps(optim, zero, PARAMS)
        assert (float(after["encoder"]["norm1"]["bias"][0]) < 1) == (decay > 0)
        np.testing.assert_array_equal(after["encoder"]["conv"]["kernel"], 1)


def test_clipped_lars_is_sgd_where_lars_would_go_further():
    def first_step(trust, **fields):
        optim = OptimConfig(weight_decay=0.0, trust_coefficient=trust, **fields)
        optimizer = make_optimizer(optim, lambda step: 0.1)
        return optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS)[0]

    far = first_step(1e3, lars_clip=True)
    kernel, gradient = (t["predictor"]["fc1"]["kernel"] for t in (far, GRADS))
    np.testing.assert_allclose(kernel, -0.1 * gradient, rtol=1e-6)
    near = first_step(1e-4, lars_clip=True)["predictor"]["fc1"]["kernel"]
    size = np.linalg.norm(PARAMS["predictor"]["fc1"]["kernel"])
    # solo-learn divides the ratio by the rate, which is multiplied again later.
    np.testing.assert_allclose(np.linalg.norm(near), 1e-4 * size, rtol=1e-5)


@pytest.mark.parametrize(
    "fields", [{"name": "lars", "lars_clip": True}, {"name": "lars"}, {"name": "muon"}]
)
def test_updates_keep_the_dtype_of_their_gradients(fields):
    params, grads = (
        jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), tree)
        for tree in (PARAMS, GRADS)
    )
    optimizer = make_optimizer(OptimConfig(**fields), 0.1)
    state = optimizer.init(params)
    updates, after = optimizer.update(grads, state, params)
    assert {x.dtype for x in jax.tree.leaves(updates)} == {jnp.dtype("bfloat16")}
    before, later = (jax.tree.map(lambda x: x.dtype, tree) for tree in (state, after))
    assert before == later  # `jax.lax.scan` needs this


@pytest.mark.parametrize("value", [1, 0.5, np.float64(0.25), jnp.int32(2)])
def test_a_number_is_a_schedule_of_floats(value):
    rate = as_schedule(value, "rate")(3)
    assert rate.dtype == jnp.float32 and rate == value


@pytest.mark.parametrize("value", [True, jnp.array(True), 1j, jnp.complex64(1), "1"])
def test_what_is_no_real_number_is_no_schedule(value):
    with pytest.raises(InputError, match="rate is .*; give a finite number"):
        as_schedule(value, "rate")


def test_momentum_does_not_reach_the_adam_of_muon():
    params = {"fc": {"kernel": jnp.eye(3), "bias": jnp.ones(3)}}
    found = []
    for momentum in (0.5, 0.95):
        settings = OptimConfig(name="muon", momentum=momentum)
        optimizer = make_optimizer(settings, lambda step: 0.1)
        state = optimizer.init(params)
        for seed in (0, 1):
            draws = np.random.default_rng(seed)
            grads = jax.tree.map(lambda x, d=draws: d.normal(size=x.shape), params)
            updates, state = optimizer.update(grads, state, params)
        found.append(updates["fc"])
    np.testing.assert_array_equal(found[0]["bias"], found[1]["bias"])
    assert np.abs(found[0]["kernel"] - found[1]["kernel"]).max() > 1e-3


def test_a_rate_of_the_predictor_is_refused_with_clipped_lars():
    """The clip compares with the learning rate, which would be 1 for all parts."""
    optim = OptimConfig(name="lars", lars_clip=True)
    with pytest.raises(InputError, match="leave out one of them"):
        make_optimizer(optim, 0.1, predictor_rate=0.1)


@pytest.mark.parametrize(
    "fields, rate, part",
    [
        ({"predictor_lr_scale": 10.0}, None, "predictor"),
        ({"projector_lr_scale": 0.0}, None, "projector"),
        ({}, 0.1, "predictor"),
    ],
)
def test_a_rate_of_a_part_is_refused_where_the_tree_has_no_such_part(
    fields, rate, part
):
    """Below the first level the part would silently have the rate of the rest."""
    optimizer = make_optimizer(OptimConfig(**fields), 0.1, rate)
    tree = {"encoder": jnp.ones(2), part: jnp.ones(2)}
    optimizer.init(tree)
    with pytest.raises(InputError, match=f"has no {part}, only params; put"):
        optimizer.init({"params": tree})
    make_optimizer(OptimConfig(), 0.1).init({"params": tree})


@pytest.mark.parametrize(
    "fields", [{"momentum": 2.0}, {"weight_decay": -1.0}, {"trust_coefficient": 0.0}]
)
def test_an_optimizer_takes_the_numbers_of_the_command_line_only(fields):
    (name, value), *_ = fields.items()
    with pytest.raises(InputError, match=rf"optim\.{name} is {value}; it must be"):
        make_optimizer(OptimConfig(**fields), 0.1)


@pytest.mark.parametrize("rate", [None, "0.1", -1.0, float("nan"), True, np.ones(2)])
def test_a_schedule_is_a_function_or_a_number(rate):
    untyped = inspect.unwrap(make_optimizer)
    with pytest.raises(InputError, match="schedule is .*give a finite number of at"):
        untyped(OptimConfig(), rate)
    for known in (0, np.float32(0.1), jnp.float32(0.1)):
        untyped(OptimConfig(), known, known)
    jax.jit(lambda rate: untyped(OptimConfig(), rate).init(PARAMS))(0.1)
    constant = jnp.float32(0.1)
    jax.jit(lambda params: untyped(OptimConfig(), constant).init(params))(PARAMS)


def test_settings_of_another_kind_make_no_optimizer():
    untyped = inspect.unwrap(make_optimizer)
    for optim in ("adamw", TrainConfig(), None):
        with pytest.raises(InputError, match="give an OptimConfig, such as config.opt"):
            untyped(optim, 0.1)
