"""Three training steps are those of DeepMind's own code: tests/golden/step.json.

Everything is checked at once: networks, loss, gradient, running statistics, LARS,
schedules and the target's update. Made in float64; float32 meets it to 1e-4.
"""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import anchor
from byol_bnfree.assembly import create_network
from byol_bnfree.config import HeadConfig, ModelConfig, OptimConfig, TrainConfig
from byol_bnfree.data.augment import normalize
from byol_bnfree.data.views import AllViews
from byol_bnfree.models.byol import Variables
from byol_bnfree.training import gradient
from byol_bnfree.training.optim import make_optimizer
from byol_bnfree.training.schedules import (
    learning_rate_schedule,
    peak_learning_rate,
    tau_schedule,
)
from byol_bnfree.training.state import create_state
from byol_bnfree.training.step import Schedules, make_train_step

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "step.json").read_text())
SETTINGS, FIRST, LAST = (
    GOLDEN[name] for name in ("settings", "first_step", "after_three_steps")
)
TOLERANCE = 3e-4
BATCH = SETTINGS["batch_size"]
HEAD = HeadConfig(hidden=SETTINGS["hidden"], out=SETTINGS["out"])
CONFIG = TrainConfig(
    norm="bn",
    batch_size=BATCH,
    base_lr=SETTINGS["base_lr"],
    model=ModelConfig(
        name=SETTINGS["network"],
        width=SETTINGS["width"],
        stem=SETTINGS["stem"],
        projector=HEAD,
        predictor=HEAD,
    ),
    optim=OptimConfig(
        weight_decay=SETTINGS["weight_decay"],
        trust_coefficient=SETTINGS["trust_coefficient"],
        momentum=SETTINGS["momentum"],
    ),
)


def views(step: int) -> tuple[np.ndarray, np.ndarray]:
    """Both views of a step in [0, 1], in place of augmented ones."""
    size = SETTINGS["image_size"]
    shape = (BATCH, size, size, 3)
    coarse = anchor.draw(f"step{step}/coarse", (BATCH, 8, 8, 3))
    coarse = coarse.repeat(size // 8, axis=1).repeat(size // 8, axis=2)
    view1 = 0.5 + 0.15 * coarse + 0.1 * anchor.draw(f"step{step}/view1", shape)
    view2 = 0.4 + 0.1 * coarse + 0.12 * anchor.draw(f"step{step}/view2", shape)
    return view1, view2


def batch(step: int) -> dict[str, np.ndarray]:
    """Both views side by side, as pictures that were cropped already."""
    labels = (3 * np.arange(BATCH) + step) % SETTINGS["num_classes"]
    crops = np.stack(views(step), axis=1).astype(np.float32)
    places = np.arange(BATCH, dtype=np.int32)
    return {"crops": crops, "label": labels.astype(np.int32), "position": places}


def given_views(key, batch, augment, views):
    """Takes the place of `all_views`: no augmentation."""
    crops = batch["crops"]
    return AllViews(tuple(normalize(crops[:, i], augment) for i in (0, 1)), ())


@functools.cache
def network():
    return create_network(CONFIG, SETTINGS["num_classes"], views=2)


def start():
    """The state of step 0, from draws, and the optimizer."""
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(network().init, jax.random.key(0), images)
    zeros = functools.partial(jax.tree.map, lambda x: jnp.zeros(x.shape, x.dtype))
    variables = Variables(
        anchor.parameters("online/", shapes.online_params),
        zeros(shapes.online_stats),
        anchor.parameters("target/", shapes.target_params),
        zeros(shapes.target_stats),
    )
    total, warmup = SETTINGS["total_steps"], SETTINGS["warmup_steps"]
    schedules = Schedules(
        learning_rate_schedule(peak_learning_rate(CONFIG), warmup, total),
        tau_schedule(SETTINGS["tau_base"], total),
    )
    optimizer = make_optimizer(CONFIG.optim, schedules.learning_rate)
    return create_state(variables, optimizer), optimizer, schedules


@functools.cache  # the tests below look at parts of the same three steps
def steps():
    """What step 0 leaves, the metrics of every step, and the state after three."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient, "all_views", given_views)
        state, optimizer, schedules = start()
        take = make_train_step(network(), optimizer, schedules, CONFIG, unroll=False)
        measure = gradient.make_gradient(network(), CONFIG, 1, unroll=False)
        key = jax.random.key(CONFIG.seed)

        @jax.jit
        def both(state, data):
            return measure(state, data, key), take(state, data)

        first, metrics = None, []
        for index in range(3):
            measured, (state, row, _) = both(state, batch(index))
            first = first or measured
            metrics.append(row)
    return first, metrics, state


def without_counts(stats) -> tuple[dict, set[int]]:
    """Means and variances, and how often they moved."""
    leaves = anchor.by_name(stats)
    counts = {int(x) for name, x in leaves.items() if name.endswith("/count")}
    return {n: x for n, x in leaves.items() if not n.endswith("/count")}, counts


def worst_of_stats(stats, expected) -> float:
    leaves, counts = without_counts(stats)
    assert counts == {expected["count"]}
    # A flat dict is a tree whose leaves have the same names.
    return anchor.worst_of_leaves(leaves, expected["leaves"])


def test_inputs_are_those_of_the_reference():
    first = anchor.draw("a", (3,))
    np.testing.assert_allclose(first, [-1.1333853307, 0.8467886607, -0.5014307125])
    state, _, _ = start()
    inputs = GOLDEN["inputs"]
    for name in ("online_params", "target_params"):
        assert anchor.worst_of_leaves(getattr(state, name), inputs[name]) < 1e-6
    for step, pair in enumerate(inputs["views"]):
        for view, expected in enumerate(pair, 1):
            found = anchor.three_numbers(f"view{view}", views(step)[view - 1])
            np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_shapes_of_the_network_are_those_of_the_reference():
    state, _, _ = start()
    found = {n: list(x.shape) for n, x in anchor.by_name(state.online_params).items()}
    assert found == GOLDEN["shapes"]


@pytest.mark.parametrize(
    "field, expected",
    [
        ("loss", np.add(FIRST["loss_q1_z2"], FIRST["loss_q2_z1"])),
        ("probe_loss", FIRST["probe_loss"]),
        ("representation", FIRST["representation1"]),
        ("projection1", FIRST["projection1"]),
        ("projection2", FIRST["projection2"]),
        ("logits", FIRST["logits1"]),
    ],
)
def test_outputs_of_the_first_step_are_deepminds(field, expected):
    (_, forward), _, _ = steps()
    assert anchor.worst_of_array(getattr(forward, field), expected) < TOLERANCE


def test_the_gradient_of_the_first_step_is_deepminds():
    (averaged, _), _, _ = steps()
    assert anchor.worst_of_leaves(averaged.grads, FIRST["gradient"]) < TOLERANCE


def test_statistics_after_the_first_step_are_deepminds():
    (averaged, _), _, _ = steps()
    for name in ("online_stats", "target_stats"):
        assert worst_of_stats(getattr(averaged, name), FIRST[name]) < TOLERANCE


def test_losses_rates_and_tau_of_three_steps_are_deepminds():
    names = {
        "optim/lr": "learning_rate",
        "ema/tau": "tau",
        "train/loss": "byol_loss_mean",
        "probe/loss": "probe_loss_mean",
        "probe/top1": "top1",
        "probe/top5": "top5",
    }
    for row, expected in zip(steps()[1], GOLDEN["steps"], strict=True):
        for ours, theirs in names.items():
            np.testing.assert_allclose(
                row[ours], expected[theirs], rtol=TOLERANCE, atol=1e-7, err_msg=ours
            )


def test_the_state_after_three_steps_is_deepminds():
    state = steps()[2]
    for name in ("online_params", "target_params"):
        assert anchor.worst_of_leaves(getattr(state, name), LAST[name]) < TOLERANCE
    (momentum,) = [s.trace for s in state.opt_state if hasattr(s, "trace")]
    assert anchor.worst_of_leaves(momentum, LAST["momentum"]) < TOLERANCE
    for name in ("online_stats", "target_stats"):
        assert worst_of_stats(getattr(state, name), LAST[name]) < TOLERANCE


def test_the_encoder_after_three_steps_is_deepminds_in_inference():
    state, expected = steps()[2], LAST["evaluation"]
    images = normalize(jnp.float32(views(0)[0]), CONFIG.augment)

    @jax.jit
    def infer(state, images):
        online = network().online
        outputs, _ = online(state.online_params, state.online_stats, images, False)
        return outputs

    outputs = infer(state, images)
    for name in ("representation", "projection", "logits"):
        found = getattr(outputs, name)
        assert anchor.worst_of_array(found, expected[name]) < TOLERANCE, name
