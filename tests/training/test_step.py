import dataclasses
import inspect
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import tiny
from byol_bnfree.assembly import create_network
from byol_bnfree.config import AugmentConfig, ViewConfig, ViewsConfig
from byol_bnfree.data.views import all_views, first_view
from byol_bnfree.diagnostics.layers import update_ratios
from byol_bnfree.errors import InputError
from byol_bnfree.losses import byol_loss
from byol_bnfree.models.byol import BYOLNetwork, Outputs
from byol_bnfree.models.norm import NORMS
from byol_bnfree.settings.run import RunConfig
from byol_bnfree.training.gradient import (
    _accumulate,
    _split,
    make_gradient,
    make_loss,
)
from byol_bnfree.training.mesh import (
    check_batch,
    make_mesh,
)
from byol_bnfree.training.parts import DataShape, build_parts
from byol_bnfree.training.passes import Averaged, Forward
from byol_bnfree.training.schedules import tau_schedule
from byol_bnfree.training.state import TrainState
from byol_bnfree.training.step import (
    UPDATE_RATIOS,
    Schedules,
    make_train_step,
    update_ratio_names,
)

QUICK = ("bn", "lars"), ("gn_ws", "muon")
PLAIN = ViewConfig(
    crop_area=(1.0, 1.0), crop_aspect=(1.0, 1.0), flip=0, jitter=0, grayscale=0, blur=0
)


@pytest.mark.parametrize("key", ["image", "label", "position"])
def test_a_batch_without_a_key_is_refused_by_its_name(key):
    state, step = tiny.start(tiny.config())
    batch = tiny.batch(8)
    del batch[key]
    with pytest.raises(InputError, match=f"the batch has no '{key}'; add it: "):
        jax.eval_shape(step, state, batch)


@pytest.mark.parametrize("key", ["label", "position"])
@pytest.mark.parametrize("change", [lambda x: x[:4], lambda x: x.astype("float32")])
def test_labels_and_positions_must_be_an_integer_per_image(key, change):
    state, step = tiny.start(tiny.config())
    batch = tiny.batch(8)
    batch[key] = change(batch[key])
    with pytest.raises(InputError, match=f"8 images, but its '{key}' is .* give int32"):
        jax.eval_shape(step, state, batch)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"image": lambda x: x[..., 0]}, "give a batch [b h w c]"),
        ({"image": lambda x: np.moveaxis(x, -1, 1)}, "looks like [b c h w]"),
        ({"image": np.ndarray.tolist}, "'image' is a list; give an array [b h w c]"),
        ({"label": np.ndarray.tolist}, "'label' is a list; give an array: int32"),
        (
            dict.fromkeys(("image", "label", "position"), lambda x: x[:0]),
            "give a batch [b h w c] of at least one",
        ),
        (
            {"crops": lambda x: x},
            "'crops' have shape (8, 8, 8, 3); give crops of at least one image",
        ),
    ],
)
def test_step_and_init_refuse_a_batch_of_another_shape_in_a_sentence(change, sentence):
    state, step = tiny.start(tiny.config())
    parts = build_parts(tiny.config(), DataShape(48, 3, (8, 8, 3)))
    batch = tiny.batch(8) | {"crops": tiny.batch(8)["image"]}
    batch = {key: change.get(key, lambda x: x)(value) for key, value in batch.items()}
    if "crops" not in change:
        del batch["crops"]
    for refusing in (partial(inspect.unwrap(step), state), inspect.unwrap(parts.init)):
        with pytest.raises(InputError) as error:
            jax.eval_shape(refusing, batch)
        assert sentence in str(error.value)


def test_a_batch_that_micro_batches_cannot_cut_is_refused():
    for pieces, devices, rest in ((4, 1, "on 1 device;"), (2, 2, "on 2 devices;")):
        state, step = tiny.start(
            tiny.config(micro_batches=pieces), data_devices=devices
        )
        sentence = f"batch of 6 images cannot be cut into {pieces} micro-batches {rest}"
        with pytest.raises(InputError, match=sentence):
            jax.eval_shape(step, state, tiny.batch(6))


def test_the_first_batch_has_the_channels_of_the_data():
    parts = build_parts(tiny.config(), DataShape(48, 3, (8, 8, 1)))
    with pytest.raises(InputError, match=r"of 3 channels, but .* is \(8, 8, 1\)"):
        jax.eval_shape(parts.init, tiny.batch(8))


@pytest.mark.parametrize("norm", tiny.norms("bn"))
def test_two_devices_equal_one_device(norm):
    """For bn this is: statistics are global under sharding."""
    cfg = tiny.config(norm=norm)
    one, two = tiny.run(cfg), tiny.run_on_two_devices(cfg)
    tiny.assert_close(jax.device_get(two), jax.device_get(one))


@pytest.mark.parametrize("norm", [pytest.param("bn", marks=pytest.mark.slow), "gn_ws"])
def test_sharded_state_equals_replicated_state(norm, monkeypatch):
    monkeypatch.setattr("byol_bnfree.training.mesh.SMALLEST_SHARDED", 8)
    cfg = tiny.config(norm=norm)
    state, losses = tiny.run_on_two_devices(cfg, shard_state=True)
    kernel = state.online_params["projector"]["fc1"]["kernel"]
    assert not kernel.sharding.is_fully_replicated
    tiny.assert_close(jax.device_get((state, losses)), jax.device_get(tiny.run(cfg)))


@pytest.mark.parametrize(
    "norm, pieces",
    [
        ("gn_ws", 2),
        *(
            pytest.param(norm, pieces, marks=pytest.mark.slow)
            for norm in NORMS
            for pieces in (2, 4)
            if norm != "bn" and (norm, pieces) != ("gn_ws", 2)
        ),
    ],
)
def test_micro_batches_equal_the_full_batch(norm, pieces):
    cfg = tiny.config(norm=norm)
    cut = dataclasses.replace(cfg, micro_batches=pieces)
    tiny.assert_close(tiny.run(cut), tiny.run(cfg))


def test_a_network_has_the_groups_that_its_step_needs():
    """Of a micro-batch: the default of `create_network` fits `make_train_step`."""
    cfg = tiny.config(norm="bn", batch_size=32, bn_stat_groups=4, micro_batches=2)
    assert create_network(cfg, 3).encoder.layers.norm.keywords["stat_groups"] == 2


@pytest.mark.parametrize("pieces", [2, 41, 47, 82])
def test_the_count_of_updates_of_batchnorm_is_that_of_one_batch(pieces):
    """XLA divides by 41 as a product with 1 / 41, which gives a little less than 1."""

    def of_piece(piece):
        stats = {"mean": piece.mean(), "count": jnp.int32(1)}
        rows = Forward(piece, piece, *3 * [piece[:, None]], None, jnp.int32(piece))
        return Averaged({}, stats, {"count": jnp.int32(2)}), rows

    stacked = jnp.arange(4.0 * pieces).reshape(pieces, 4)
    averaged, _ = jax.jit(lambda x: _accumulate(of_piece, x, False, 1))(stacked)
    assert averaged.online_stats["count"] == 1 and averaged.target_stats["count"] == 2
    np.testing.assert_allclose(averaged.online_stats["mean"], stacked.mean(), rtol=1e-6)


@pytest.mark.slow
def test_micro_batches_of_whole_statistics_groups_equal_the_full_batch():
    # Groups of 8: over two examples BatchNorm is nearly a sign and amplifies rounding.
    cfg = tiny.config(norm="bn", bn_stat_groups=4, batch_size=32)
    cut = dataclasses.replace(cfg, micro_batches=2)
    tiny.assert_close(tiny.run(cut), tiny.run(cfg))
    other = tiny.run(tiny.config(norm="bn", batch_size=32))
    assert not np.allclose(other[1], tiny.run(cfg)[1], rtol=1e-3)


def test_micro_batches_on_two_devices_equal_one_device():
    cfg = tiny.config(norm="gn_ws", micro_batches=2)
    two = tiny.run_on_two_devices(cfg)
    tiny.assert_close(jax.device_get(two), jax.device_get(tiny.run(cfg)))


@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_probe_does_not_train_the_encoder(norm):
    cfg = tiny.config(norm=norm)
    state, step = tiny.start(cfg)
    batch = tiny.batch()
    relabelled = batch | {"label": (batch["label"] + 1) % tiny.CLASSES}
    step = jax.jit(step)
    a, b = (step(state, data)[0].online_params for data in (batch, relabelled))
    tiny.assert_close(a["encoder"], b["encoder"], rtol=0, atol=0)
    assert not np.array_equal(a["probe"]["kernel"], b["probe"]["kernel"])


@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_target_moves_only_by_the_moving_average_of_the_new_online_network(norm):
    cfg = tiny.config(norm=norm)
    state, step = tiny.start(cfg)
    after, metrics, _ = jax.jit(step)(state, tiny.batch())
    tau = float(tau_schedule(0.9, 10)(0))
    assert float(metrics["ema/tau"]) == pytest.approx(tau)
    expected = jax.tree.map(
        lambda xi, theta: tau * xi + (1 - tau) * theta,
        state.target_params,
        {part: after.online_params[part] for part in ("encoder", "projector")},
    )
    tiny.assert_close(after.target_params, expected, rtol=1e-5)


@pytest.mark.parametrize("norm", tiny.norms("bn", "gn_ws"))
def test_metrics_and_outputs_are_those_of_the_step_that_was_taken(norm):
    """The update is the difference of the weights, the rest that of the gradient."""
    cfg = tiny.config(norm=norm, run=RunConfig(log_every=1, layers_every=1))
    (state, step), network = tiny.start(cfg), tiny.network(cfg, views=2)
    after, metrics, outputs = jax.jit(step)(state, tiny.batch())
    gradient = jax.jit(make_gradient(network, cfg, 1, unroll=False))
    averaged, forward = gradient(state, tiny.batch(), jax.random.key(cfg.seed))
    moved = jax.tree.map(jnp.subtract, after.online_params, state.online_params)
    expected = {
        "train/projection_norm": jnp.linalg.norm(forward.projection1, axis=1).mean(),
        "optim/grad_norm": optax.tree.norm(averaged.grads),
        "optim/update_norm": optax.tree.norm(moved),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-3, err_msg=name)
    ratios = update_ratios(state.online_params, moved)
    ratios = {f"update_ratio/{name}": value for name, value in ratios.items()}
    in_order = [ratios[name] for name in update_ratio_names(state.online_params)]
    np.testing.assert_allclose(metrics[UPDATE_RATIOS], in_order, rtol=1e-2, atol=1e-6)
    for name in outputs._fields:
        tiny.assert_close(getattr(outputs, name), getattr(forward, name))


@pytest.mark.parametrize("norm", tiny.norms("bn", "gn_ws"))
def test_loss_and_gradient_are_those_of_each_view_passed_alone(norm):
    """Whether or not the step joins the views into one pass."""
    cfg = tiny.config(norm=norm)
    network, (state, _) = tiny.network(cfg), tiny.start(cfg)
    keys = jax.random.split(jax.random.key(1))
    images = [jax.random.normal(key, (cfg.batch_size, 8, 8, 3)) for key in keys]

    def alone(params):
        stats, target_stats = state.online_stats, state.target_stats
        predictions, targets = [], []
        for view in images:
            outputs, stats = network.online(params, stats, view, True)
            target, target_stats = network.target(
                state.target_params, target_stats, view, True
            )
            predictions.append(outputs.prediction)
            targets.append(target)
        loss = byol_loss(tuple(predictions), tuple(targets))
        return loss.mean(), (stats, target_stats)

    def joined(views, params):
        unlabelled = -jnp.ones(cfg.batch_size, jnp.int32)
        loss_of = make_loss(tiny.network(cfg, views))
        loss, (stats, _) = loss_of(params, state, images, unlabelled)
        return loss, stats

    expected, *found = (
        jax.jit(jax.value_and_grad(function, has_aux=True))(state.online_params)
        for function in (alone, partial(joined, 1), partial(joined, 2))
    )
    for gradient in found:
        tiny.assert_close(gradient, expected)


class Pixels(BYOLNetwork):
    """A network whose representation is the mean of each row and channel."""

    def online(self, params, stats, images, train):
        y = params["weight"] * images.mean(2).reshape(len(images), -1)
        return Outputs(y, y, y, None), stats

    def target(self, params, stats, images, train):
        return self.online(params, stats, images, train)[0].projection, stats


@pytest.mark.parametrize("pieces", [1, 2])
def test_every_example_step_and_seed_has_views_of_its_own(pieces):
    """As training sees them, of a batch that holds one image four times."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    batch = {"image": np.stack([image] * 4), "label": np.zeros(4, np.int32)}
    batch["position"] = np.arange(4)
    view = ViewConfig(crop_area=(0.1, 0.8), jitter=0, grayscale=0, blur=0)
    cfg = tiny.config(
        batch_size=4, micro_batches=pieces, augment=AugmentConfig(view, view)
    )

    network = Pixels(*[nn.Dense(1)] * 3, None)  # none of them is called
    gradient = jax.jit(make_gradient(network, cfg, 1, unroll=False))

    def seen(seed, step):
        params = {"weight": jnp.ones(())}
        state = TrainState(jnp.int32(step), params, params, {}, {}, None)
        _, forward = gradient(state, batch, jax.random.key(seed))
        return [forward.projection1, forward.projection2]

    rows = np.concatenate([*seen(0, 0), *seen(0, 1), *seen(1, 0)])
    apart = np.abs(rows[:, None] - rows[None]).max(-1) + np.eye(len(rows))
    assert apart.min() > 1e-2
    np.testing.assert_array_equal(seen(0, 0), np.split(rows[:8], 2))


def test_without_a_key_the_seed_gives_it():
    params = {"weight": jnp.ones(())}
    state = TrainState(jnp.int32(0), params, params, {}, {}, optax.EmptyState())
    schedules = Schedules(lambda step: 0.1, lambda step: 0.9)

    def program(seed, *keys):
        cfg, network = tiny.config(seed=seed), Pixels(*[nn.Dense(1)] * 3, None)
        step = make_train_step(network, optax.identity(), schedules, cfg, unroll=False)
        keyed = jax.make_jaxpr(lambda *a: step(*a, *map(jax.random.key, keys)))
        return re.sub("0x[0-9a-f]+", "", str(keyed(state, tiny.batch())))

    assert program(7) == program(0, 7) != program(0)


def test_a_step_draws_the_same_views_with_a_key_of_uint32():
    params, network = {"weight": jnp.ones(())}, Pixels(*[nn.Dense(1)] * 3, None)
    state = TrainState(jnp.int32(7), params, params, {}, {}, optax.EmptyState())
    given = network, optax.identity(), Schedules(0.1, 0.9), tiny.config()
    step = jax.jit(make_train_step(*given))
    old, new = (
        step(state, tiny.batch(), make(3))[2].representation
        for make in (jax.random.PRNGKey, jax.random.key)
    )
    np.testing.assert_array_equal(old, new)


def test_a_number_is_the_schedule_of_all_steps():
    params, network = {"weight": jnp.ones(())}, Pixels(*[nn.Dense(1)] * 3, None)
    state = TrainState(jnp.int32(7), params, params, {}, {}, optax.EmptyState())
    given = network, optax.identity(), Schedules(0.5, 0.75), tiny.config()
    metrics = jax.jit(make_train_step(*given))(state, tiny.batch())[1]
    assert (metrics["optim/lr"], metrics["ema/tau"]) == (0.5, 0.75)


@pytest.mark.parametrize(
    "optimizer, schedules, sentence",
    [
        (None, (0.1, 0.9), "optimizer is of type NoneType; give one of optax"),
        (optax.sgd, (0.1, 0.9), "optimizer is of type function; give one"),
        (optax.sgd(0.1), ("0.1", 0.9), "learning_rate is '0.1'; give a finite"),
        (optax.sgd(0.1), (0.1, 1.5), "tau is 1.5; give .* from 0 to 1, or a f"),
        (optax.sgd(0.1), (0.1, None), "schedules.tau is None; give a finite"),
    ],
)
def test_a_step_takes_optimizers_and_schedules_only(optimizer, schedules, sentence):
    cfg, untyped = tiny.config(), inspect.unwrap(make_train_step)
    given = inspect.unwrap(Schedules)._make(schedules)
    with pytest.raises(InputError, match=sentence):
        untyped(tiny.network(cfg), optimizer, given, cfg)


def test_target_statistics_are_its_own_and_move_once_a_view():
    state, step = tiny.start(tiny.config(norm="bn"))
    after, *_ = jax.jit(step)(state, tiny.batch())
    online, target = (
        tree["encoder"]["norm1"] for tree in (after.online_stats, after.target_stats)
    )
    assert online["count"] == 2 and target["count"] == 2
    assert not np.allclose(online["mean"], target["mean"], rtol=1e-3)


@pytest.mark.parametrize("norm", NORMS)
def test_without_batchnorm_there_are_no_statistics(norm):
    state, _ = tiny.start(tiny.config(norm=norm))
    assert bool(state.online_stats) == bool(state.target_stats) == (norm == "bn")


@pytest.mark.parametrize("norm", [pytest.param("bn", marks=pytest.mark.slow), "gn_ws"])
def test_steps_compile_once(norm):
    state, step = tiny.start(tiny.config(norm=norm))
    step = jax.jit(step, donate_argnums=0)
    for index in range(3):
        state, *_ = step(state, tiny.batch(seed=index))
    assert step._cache_size() == 1


@pytest.mark.parametrize("norm", NORMS)
def test_bfloat16_leaves_state_and_loss_in_float32(norm):
    cfg = tiny.config(norm=norm, compute_dtype="bfloat16")
    state, step = tiny.start(cfg)
    after, metrics, _ = jax.eval_shape(step, state, tiny.batch())
    leaves = jax.tree.leaves((after, metrics))
    assert {leaf.dtype for leaf in leaves} <= {jnp.dtype("float32"), jnp.dtype("int32")}


def test_unlabelled_images_leave_the_probe_alone():
    state, step = tiny.start(tiny.config())
    batch = tiny.batch() | {"label": np.full(8, -1, np.int32)}
    after, metrics, _ = jax.jit(step)(state, batch)
    assert metrics["probe/loss"] == 0 and metrics["probe/top1"] == 0
    bias = after.online_params["probe"]["bias"]
    assert not np.asarray(bias).any()


@pytest.mark.parametrize(
    ("norm", "optimizer"),
    [
        pytest.param(
            norm, name, marks=[] if (norm, name) in QUICK else pytest.mark.slow
        )
        for norm in NORMS
        for name in ("lars", "sgd", "adamw", "muon")
    ],
)
def test_a_gpu_never_asks_the_host_where_a_step_goes_on(norm, optimizer):
    """At branches and at loops of unknown length it waits until the host decides."""
    cfg = tiny.config(norm=norm, micro_batches=1 if norm == "bn" else 2)
    cfg = dataclasses.replace(cfg, optim=dataclasses.replace(cfg.optim, name=optimizer))
    state, step = tiny.start(cfg)
    program = str(jax.make_jaxpr(step)(state, tiny.batch()))
    assert "conv_general_dilated[" in program
    assert not re.findall(r"\b(?:cond|while)\[", program)


def test_micro_batches_keep_examples_on_their_device():
    """Of 8 examples on 2 devices each of 2 micro-batches takes 2 from either."""
    pieces = _split({"image": np.arange(8)}, 2, devices=2)["image"]
    np.testing.assert_array_equal(pieces, [[0, 1, 4, 5], [2, 3, 6, 7]])


def test_a_batch_that_devices_do_not_divide_is_refused():
    with pytest.raises(InputError, match="batch-size 9 cannot be split over 2"):
        check_batch(tiny.config(batch_size=9), make_mesh())


def test_views_are_normalized_before_the_network_sees_them():
    config = AugmentConfig(PLAIN, PLAIN, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3))
    image = np.full((1, 8, 8, 3), 255, np.uint8)
    batch = {"image": jnp.asarray(image), "position": jnp.arange(1)}
    drawn = all_views(jax.random.key(0), batch, config, ViewsConfig(small=1))
    alone = first_view(jax.random.key(0), batch, config)
    for view in (*drawn.large, *drawn.small, alone):
        np.testing.assert_allclose(view[0, 0, 0], [5, 3, 0.7 / 0.3], rtol=1e-5)
