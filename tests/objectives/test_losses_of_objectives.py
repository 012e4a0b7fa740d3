"""Each objective's loss at fixed inputs, against numbers and code of others."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from byol_bnfree.config import (
    BarlowTwinsConfig,
    BYOLConfig,
    InfoNCEConfig,
    MoCoConfig,
)
from byol_bnfree.losses import byol_loss
from byol_bnfree.objectives import Passed
from byol_bnfree.objectives.barlow_twins import barlow_twins
from byol_bnfree.objectives.byol import byol, fitted
from byol_bnfree.objectives.infonce import infonce
from byol_bnfree.objectives.moco_v2 import moco_v2
from byol_bnfree.objectives.rotation import rotation, turn_views
from byol_bnfree.objectives.simsiam import simsiam

B, D = 6, 4
NTXENT = {0.07: 12.387762, 0.1: 8.894757, 0.5: 3.059647, 1.0: 2.632868}
"""optax 0.2.8, `optax.losses.ntxent` of `drawn(0)` and `drawn(1)` below, by
temperature; an independent float64 computation in NumPy gives the same."""


def drawn(seed: int, size: int = B, width: int = D) -> jax.Array:
    numbers = np.random.default_rng(seed).normal(size=(size, width))
    return jnp.asarray(numbers, jnp.float32)


def passed(**fields) -> Passed:
    """Outputs of two views that all differ."""
    views = {
        name: (drawn(2 * n), drawn(2 * n + 1))
        for n, name in enumerate(("projections", "predictions", "targets"))
    }
    return Passed(**({"memory": {}, "answers": None} | views | fields))


def simclr(alpha: float) -> jax.Array:
    """As a run passes it: without a target, the projections are the targets."""
    z = (drawn(0), drawn(1))
    loss = infonce(InfoNCEConfig(alpha=alpha)).loss
    return loss(passed(projections=z, targets=z))


@pytest.mark.parametrize("alpha", NTXENT)
def test_simclr_is_the_ntxent_of_optax(alpha):
    """Times 2 alpha, of both views of an image, plus 4 (P1 appendix F.5)."""
    own = (simclr(alpha).mean() - 4) / (4 * alpha)
    both = jnp.concatenate([drawn(0), drawn(1)])
    theirs = optax.losses.ntxent(both, jnp.tile(jnp.arange(B), 2), alpha)
    np.testing.assert_allclose(own, theirs, rtol=2e-5)
    np.testing.assert_allclose(own, NTXENT[alpha], rtol=2e-5)


@pytest.mark.parametrize("target", ["moving_average", "stop_gradient", "none"])
def test_byol_is_exactly_the_bridge_at_beta_0(target):
    bridge = infonce(InfoNCEConfig(predictor=True, target=target, beta=0))
    given = passed()
    expected = byol_loss(given.predictions, given.targets)
    np.testing.assert_array_equal(bridge.loss(given), expected)
    np.testing.assert_array_equal(byol(BYOLConfig()).loss(given), expected)


def test_byol_is_equation_2():
    """Written out in NumPy: each view predicts the target of the other one."""
    given, expected = passed(), np.zeros(B)
    for q, z in zip(given.predictions, given.targets[::-1], strict=True):
        q, z = np.float64(q), np.float64(z)
        lengths = np.linalg.norm(q, axis=1) * np.linalg.norm(z, axis=1)
        expected += 2 - 2 * (q * z).sum(1) / lengths
    np.testing.assert_allclose(byol(BYOLConfig()).loss(given), expected, rtol=1e-5)


def test_the_closed_form_predicts_the_target_of_the_other_view():
    given, pairs = passed(), []
    for z, t in zip(given.projections, given.targets[::-1], strict=True):
        weights = np.linalg.lstsq(np.float64(z), np.float64(t), rcond=None)[0]
        pairs.append((jnp.float32(np.float64(z) @ weights), t))
    predictions, targets = zip(*pairs, strict=True)
    expected = byol_loss(predictions, targets[::-1])
    found = byol(BYOLConfig(predictor="closed_form")).loss(given)
    np.testing.assert_allclose(found, expected, rtol=1e-2)


@pytest.mark.parametrize("predictor", [True, False])
def test_the_bridge_is_minus_equation_6(predictor):
    """Written out in loops for both orders of the views."""
    alpha, beta, given = 0.3, 0.5, passed()
    config = InfoNCEConfig(predictor, "moving_average", beta, alpha)
    unit = [
        [np.asarray(x) / np.linalg.norm(x, axis=1, keepdims=True) for x in pair]
        for pair in (
            given.predictions if predictor else given.projections,
            given.targets,
        )
    ]
    online, target = unit
    expected = []
    for i in range(B):
        total = 0.0
        for v, w in ((0, 1), (1, 0)):
            crowd = sum(
                np.exp(online[v][i] @ target[v][j] / alpha) for j in range(B) if j != i
            ) + sum(np.exp(online[v][i] @ target[w][j] / alpha) for j in range(B))
            total += 2 - 2 * online[v][i] @ target[w][i]
            total += 2 * alpha * beta * np.log(crowd)
        expected.append(total)
    np.testing.assert_allclose(infonce(config).loss(given), expected, rtol=1e-5)


def test_simsiam_is_1_minus_the_mean_cosine():
    given = passed()
    cosine = optax.losses.cosine_similarity
    p, z = given.predictions, given.targets
    expected = 1 - (cosine(p[0], z[1]) + cosine(p[1], z[0])) / 2
    np.testing.assert_allclose(simsiam().loss(given), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_moco_tells_the_own_key_from_the_queue(temperature):
    """Cross-entropy of the first of 1 + K logits, as in the paper's algorithm 1."""
    objective = moco_v2(MoCoConfig(queue=12, temperature=temperature))
    memory = objective.first_memory(jax.random.key(0), D)
    given = passed(memory=memory)
    queue = np.asarray(memory["queue"])
    np.testing.assert_allclose(np.linalg.norm(queue, axis=1), 1, rtol=1e-5)
    expected = 0
    for first, second in ((0, 1), (1, 0)):
        q, k = (
            np.asarray(x) for x in (given.projections[first], given.targets[second])
        )
        q, k = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, k))
        cosines = np.concatenate([(q * k).sum(1, keepdims=True), q @ queue.T], 1)
        expected += optax.softmax_cross_entropy_with_integer_labels(
            cosines / temperature, np.zeros(B, int)
        )
    np.testing.assert_allclose(objective.loss(given), expected, rtol=1e-5)


def test_the_oldest_keys_leave_the_queue_first():
    objective = moco_v2(MoCoConfig(queue=12))
    memory = objective.first_memory(jax.random.key(0), D)
    one, two = (passed(targets=(drawn(n), drawn(n + 1))) for n in (20, 30))
    for given in (one, two):
        memory = objective.remember(memory, objective.keep(given))
    keys = objective.keep(two).reshape(-1, D)
    np.testing.assert_array_equal(memory["queue"], keys)
    memory = objective.remember(memory, objective.keep(one)[:3])
    np.testing.assert_array_equal(memory["queue"][6:], keys[:6])


def test_keys_have_length_1_in_the_queue():
    objective = moco_v2(MoCoConfig(queue=12))
    kept = objective.keep(passed(targets=(3 * drawn(0), 5 * drawn(1))))
    np.testing.assert_allclose(np.linalg.norm(kept, axis=2), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "config, redundancy", [(BarlowTwinsConfig(), 0.0051), (BarlowTwinsConfig(0.3), 0.3)]
)
def test_barlow_twins_is_the_sum_over_the_correlation_matrix(config, redundancy):
    given = passed()
    a, b = given.projections
    expected = np.corrcoef(np.asarray(a).T, np.asarray(b).T)[:D, D:]
    own = np.diag(expected)
    others = (expected**2).sum() - (own**2).sum()
    total = ((1 - own) ** 2).sum() + redundancy * others
    loss = barlow_twins(config).loss(given)
    np.testing.assert_allclose(loss, np.full(B, total), rtol=1e-4)


@pytest.mark.parametrize("name", ["l2", "layernorm", "batchnorm"])
def test_normalized_projections_have_length_1_on_average(name):
    """The loss of equal and of opposite vectors tells: 0 and 4 an order (Table 20)."""
    loss = byol(BYOLConfig(loss_normalization=name)).loss
    z = (drawn(0), drawn(0))
    same = loss(passed(predictions=z, targets=(5 * z[0], 5 * z[1])))
    np.testing.assert_allclose(same, 0, atol=1e-5)
    opposite = loss(passed(predictions=z, targets=(-z[0], -z[1])))
    np.testing.assert_allclose(opposite.mean(), 8, rtol=1e-5)


def test_without_normalization_the_loss_is_the_squared_distance():
    given = passed()
    (q1, q2), (z1, z2) = given.predictions, given.targets
    expected = ((q1 - z2) ** 2).sum(1) + ((q2 - z1) ** 2).sum(1)
    loss = byol(BYOLConfig(loss_normalization="none")).loss(given)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_the_closed_form_predictor_is_least_squares():
    z, target = drawn(0, 64), drawn(1, 64)
    expected = z @ np.linalg.lstsq(np.asarray(z), np.asarray(target), rcond=None)[0]
    np.testing.assert_allclose(fitted(z, target), expected, atol=1e-3)
    assert jnp.isfinite(jax.grad(lambda x: fitted(x, target).sum())(0 * z)).all()


def test_no_gradient_passes_through_the_weights_of_the_closed_form():
    """The derivative of sum(z W) by each row of z is then the same, the rows' sums."""
    z, target = drawn(0, 64), drawn(1, 64)
    weights = np.linalg.lstsq(np.asarray(z), np.asarray(target), rcond=None)[0]
    gradient = jax.grad(lambda x: fitted(x, target).sum())(z)
    np.testing.assert_allclose(gradient, np.tile(weights.sum(1), (64, 1)), atol=1e-3)


def test_rotation_of_a_sure_predictor_costs_nothing():
    answers = jnp.arange(B * 2).reshape(B, 2) % 4
    logits = 100.0 * jax.nn.one_hot(answers, 4)
    sure = passed(predictions=(logits[:, 0], logits[:, 1]), answers=answers)
    np.testing.assert_allclose(rotation().loss(sure), 0, atol=1e-6)
    unsure = sure._replace(predictions=(jnp.zeros((B, 4)),) * 2)
    np.testing.assert_allclose(rotation().loss(unsure), np.log(4), rtol=1e-6)


def test_views_are_turned_by_key_and_position_alone():
    views = [jax.random.normal(jax.random.key(n), (8, 5, 5, 3)) for n in (0, 1)]
    key, positions = jax.random.key(3), jnp.arange(8)
    turned, quarters = turn_views(key, views, positions)
    for view, (before, after) in enumerate(zip(views, turned, strict=True)):
        for i in range(8):
            expected = np.rot90(before[i], int(quarters[i, view]))
            np.testing.assert_array_equal(after[i], expected)
    part, few = turn_views(key, [v[5:] for v in views], positions[5:])
    np.testing.assert_array_equal(few, quarters[5:])
    np.testing.assert_array_equal(part[0], turned[0][5:])
    assert len(np.unique(quarters)) == 4
