"""Training steps of every objective: every norm, devices, micro-batches, gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from byol_bnfree.config import (
    BYOLConfig,
    InfoNCEConfig,
    MoCoConfig,
    OptimConfig,
    TrainConfig,
)
from byol_bnfree.models.norm import NORMS
from byol_bnfree.objectives import make_objective
from byol_bnfree.training.gradient import make_loss
from byol_bnfree.training.mesh import batch_sharding, make_mesh

NARROW = dataclasses.replace(
    tiny.config().model,
    projector=dataclasses.replace(tiny.HEAD, out=4),
    predictor=dataclasses.replace(tiny.HEAD, out=4),
)
KINDS = {
    "byol-layernorm": {"byol": BYOLConfig(loss_normalization="layernorm")},
    "byol-batchnorm": {"byol": BYOLConfig(loss_normalization="batchnorm")},
    "infonce": {"objective": "infonce"},
    "infonce-byol": {
        "objective": "infonce",
        "infonce": InfoNCEConfig(True, "moving_average", 0.5, 0.3),
    },
    "simsiam": {"objective": "simsiam"},
    "moco_v2": {"objective": "moco_v2", "moco_v2": MoCoConfig(queue=32)},
    "barlow_twins": {"objective": "barlow_twins"},
    "rotation": {"objective": "rotation"},
    "byol-none": {"byol": BYOLConfig(loss_normalization="none")},
    "closed_form": {"byol": BYOLConfig(predictor="closed_form"), "model": NARROW},
}
COUPLED = ("closed_form", "byol-batchnorm", "infonce", "infonce-byol", "barlow_twins")


def config(kind: str, **fields) -> TrainConfig:
    """LARS of the tiny run; SGD where its ratio would meet a predictor without use."""
    return tiny.config(**({"norm": "gn_ws"} | KINDS[kind] | fields))


SOME_SLOW = [
    kind if kind == "infonce" else pytest.param(kind, marks=pytest.mark.slow)
    for kind in KINDS
]


@pytest.mark.parametrize("kind", SOME_SLOW)
def test_two_devices_equal_one_device(kind):
    """So negatives, correlations, statistics and the queue are of the global batch."""
    cfg = config(kind)
    one, two = tiny.run(cfg), tiny.run_on_two_devices(cfg)
    # A correlation over 8 images amplifies rounding, and so does a fit to them.
    loose = {
        "barlow_twins": {"atol": 1e-4},
        "closed_form": {"rtol": 5e-3, "atol": 1e-3},
    }
    limits = loose.get(kind, {})
    tiny.assert_close(jax.device_get(two), jax.device_get(one), **limits)


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_objective_trains_with_every_norm(kind, norm):
    cfg = config(kind, norm=norm)
    state, losses = tiny.run(cfg)
    before = tiny.start(cfg)[0]
    kernels = [
        tree["encoder"]["conv1"]["kernel"]
        for tree in (before.online_params, state.online_params)
    ]
    assert np.isfinite(losses).all() and not np.array_equal(*kernels)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in COUPLED])
def test_micro_batches_equal_the_full_batch(kind):
    cfg = config(kind)
    cut = dataclasses.replace(cfg, micro_batches=2)
    tiny.assert_close(tiny.run(cut), tiny.run(cfg))


@pytest.mark.slow
def test_micro_batches_on_devices_leave_the_queue_in_the_same_order():
    cfg = config("moco_v2", micro_batches=2)
    two = tiny.run_on_two_devices(cfg)
    tiny.assert_close(jax.device_get(two), jax.device_get(tiny.run(config("moco_v2"))))


def test_negatives_are_all_other_images_of_the_batch():
    """The loss of an image on one device moves with every image of the other."""
    cfg = config("infonce", infonce=InfoNCEConfig(alpha=0.5))
    state, _ = tiny.start(cfg)
    loss = make_loss(tiny.network(cfg, views=2), make_objective(cfg))
    keys = jax.random.split(jax.random.key(0))
    views = [jax.random.normal(key, (8, 8, 8, 3)) for key in keys]
    unlabelled = -jnp.ones(8, jnp.int32)

    def first(images):
        _, (_, forward) = loss(
            state.online_params, state, (images, views[1]), unlabelled
        )
        return forward.loss[0]

    layout = batch_sharding(make_mesh())
    moved = jax.jit(jax.grad(first), in_shardings=layout)(views[0])
    assert (np.abs(moved).max((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("predictor", [True, False])
@pytest.mark.parametrize("target", ["moving_average", "stop_gradient", "none"])
def test_gradient_passes_where_the_bridge_says(target, predictor):
    """Of beta 0: by hand with stop-gradients, on the projections of one network."""
    cfg = config(
        "infonce", infonce=InfoNCEConfig(predictor, target, beta=0.0), norm="none"
    )
    network, (state, _) = tiny.network(cfg), tiny.start(cfg)
    views = [jax.random.normal(jax.random.key(n), (8, 8, 8, 3)) for n in (0, 1)]
    unlabelled = -jnp.ones(8, jnp.int32)

    def by_hand(params):
        outs = [network.online(params, {}, view, True)[0] for view in views]
        q = [out.prediction if predictor else out.projection for out in outs]
        z = [out.projection for out in outs]
        if target == "moving_average":
            z = [network.target(state.target_params, {}, v, True)[0] for v in views]
        if target != "none":
            z = jax.lax.stop_gradient(z)
        unit = [x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (*q, *z)]
        cosine = jnp.sum(unit[0] * unit[3] + unit[1] * unit[2], axis=1)
        return jnp.mean(4 - 2 * cosine)

    def ours(params):
        loss = make_loss(tiny.network(cfg, views=2), make_objective(cfg))
        return loss(params, state, views, unlabelled)[0]

    found, expected = (
        jax.jit(jax.grad(f))(state.online_params) for f in (ours, by_hand)
    )
    tiny.assert_close(found, expected)


def test_the_targets_of_simsiam_are_the_online_networks():
    """Its loss is a quarter of the bridge's with these targets and no negatives."""
    bridge = InfoNCEConfig(True, "stop_gradient", beta=0.0)
    both = [config("simsiam"), config("infonce", infonce=bridge)]
    state, _ = tiny.start(both[0])
    views = [jax.random.normal(jax.random.key(n), (8, 8, 8, 3)) for n in (0, 1)]
    unlabelled = -jnp.ones(8, jnp.int32)
    ours, theirs = (
        make_loss(tiny.network(cfg, views=2), make_objective(cfg))(
            state.online_params, state, views, unlabelled
        )[0]
        for cfg in both
    )
    np.testing.assert_allclose(4 * ours, theirs, rtol=1e-5)


def test_a_head_without_use_stays_where_it_is():
    cfg = config("infonce", optim=OptimConfig(name="sgd", weight_decay=0.0))
    state, _ = tiny.run(cfg)
    before = tiny.start(cfg)[0].online_params["predictor"]
    tiny.assert_close(state.online_params["predictor"], before, rtol=0, atol=0)


def test_the_predictor_of_simsiam_keeps_its_rate():
    """Each step from the same momentum: only the learning rate tells steps apart."""
    from byol_bnfree.training.optim import constant_predictor_rate, make_optimizer

    cfg = config(
        "simsiam", optim=OptimConfig(name="sgd", momentum=0.0, weight_decay=0.0)
    )
    rate = constant_predictor_rate(cfg)
    assert rate == cfg.base_lr * cfg.batch_size / 256
    optimizer = make_optimizer(cfg.optim, lambda step: 0.5 / (step + 1), rate)
    ones = {
        part: {"fc1": {"kernel": jnp.ones((2, 2))}} for part in ("encoder", "predictor")
    }
    opt_state, moved = optimizer.init(ones), []
    for _ in range(2):
        updates, opt_state = optimizer.update(ones, opt_state, ones)
        moved.append([-float(updates[p]["fc1"]["kernel"][0, 0]) for p in ones])
    np.testing.assert_allclose(moved, [[0.5, rate], [0.25, rate]], rtol=1e-6)


def test_a_predictor_may_start_as_the_identity():
    head = dataclasses.replace(tiny.HEAD, depth=1, plain_dense=(1,))
    model = dataclasses.replace(
        tiny.config().model, predictor=head, predictor_start="identity"
    )
    for norm in ("bn", "gn_ws"):
        cfg = tiny.config(norm=norm, model=model)
        network, (state, _) = tiny.network(cfg), tiny.start(cfg)
        images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
        out, _ = network.online(state.online_params, state.online_stats, images, True)
        np.testing.assert_allclose(out.prediction, out.projection, rtol=1e-5, atol=1e-6)


def test_rotation_predicts_four_turns_whatever_the_projection():
    cfg = config("rotation")
    kernel = tiny.start(cfg)[0].online_params["predictor"]["fc2"]["kernel"]
    assert kernel.shape[1] == 4 != cfg.model.predictor.out


def test_without_a_predictor_the_projection_may_have_any_width():
    model = tiny.ModelConfig(
        projector=dataclasses.replace(tiny.HEAD, out=4), predictor=tiny.HEAD
    )
    state, step = tiny.start(tiny.config(objective="moco_v2", model=model))
    after, metrics, _ = jax.eval_shape(step, state, tiny.batch())
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert metrics["train/loss"].shape == ()


@pytest.mark.parametrize("norm", NORMS)
def test_the_classifier_of_rotation_is_never_standardized(norm):
    """A standardized layer could not scale its logits."""
    head = tiny.network(config("rotation", norm=norm)).predictor
    x = jax.random.normal(jax.random.key(0), (4, 8))
    variables = head.init(jax.random.key(1), x)
    larger = jax.tree.map(jnp.copy, variables)
    larger["params"]["fc2"]["kernel"] *= 10
    one, ten = (head.apply(v, x) for v in (variables, larger))
    np.testing.assert_allclose(ten, 10 * one, rtol=1e-4, atol=1e-5)
