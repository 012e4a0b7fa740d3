"""Several views of an image: their draws, their loss, and ways to pass them."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tiny
from byol_bnfree.config import AugmentConfig, TrainConfig, ViewsConfig
from byol_bnfree.data.augment import normalize, two_views
from byol_bnfree.data.views import all_views, first_view
from byol_bnfree.errors import InputError
from byol_bnfree.losses import byol_loss, l2_normalize
from byol_bnfree.models.norm import NORMS
from byol_bnfree.objectives.several_views import loss_of_views
from byol_bnfree.settings.view_checks import check_small_size
from byol_bnfree.training.parts import DataShape, build_parts
from byol_bnfree.training.passes import of_views
from byol_bnfree.training.several_views import make_gradient_of_views
from byol_bnfree.training.step import Schedules, make_train_step

FOUR = ViewsConfig(count=4)
MIXED = ViewsConfig(count=3, small=2, small_size=5)


BATCH = jax.tree.map(jnp.asarray, tiny.batch(4))


@partial(jax.jit, static_argnames="views")  # one by one its operations take longer
def drawn(views, batch=BATCH):
    return all_views(jax.random.key(0), batch, tiny.config().augment, views)


def total_loss(predictions, targets, how, small=()):
    return loss_of_views(predictions, targets, small, how, l2_normalize)


def vectors(count, seed=0):
    keys = jax.random.split(jax.random.key(seed), count)
    return tuple(jax.random.normal(key, (5, 6)) for key in keys)


def test_the_first_two_views_do_not_depend_on_the_number_of_views():
    augment = tiny.config().augment
    both = jax.jit(lambda images: two_views(jax.random.key(0), images, augment))
    expected = [normalize(view, augment) for view in both(BATCH["image"])]
    for views in (ViewsConfig(), FOUR, MIXED):
        for view, plain in zip(drawn(views).large[:2], expected, strict=True):
            np.testing.assert_allclose(view, plain, rtol=1e-5, atol=1e-6)


def test_every_view_is_drawn_anew():
    found = drawn(ViewsConfig(count=5))
    flat = np.stack([np.ravel(view[0]) for view in found.large])
    different = np.abs(flat[:, None] - flat[None]).max(-1)
    assert (different[~np.eye(5, dtype=bool)] > 0.1).all()


def test_small_views_have_their_size():
    found = drawn(MIXED)
    assert [view.shape for view in found.small] == 2 * [(4, 5, 5, 3)]
    half = drawn(ViewsConfig(small=1)).small[0]
    assert half.shape == (4, 4, 4, 3)


def test_a_view_depends_on_its_images_place_in_the_global_batch():
    second = {name: rows[2:] for name, rows in BATCH.items()}
    whole, part = drawn(MIXED), drawn(MIXED, second)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
        np.testing.assert_allclose(a[2:], b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", ["mean", "pairs"])
def test_two_views_have_byols_loss(how):
    predictions, targets = vectors(2), vectors(2, seed=1)
    np.testing.assert_allclose(
        total_loss(predictions, targets, how),
        byol_loss(predictions, targets),
        rtol=1e-6,
    )


def test_pairs_are_the_mean_of_byols_loss_over_pairs():
    predictions, targets = vectors(3), vectors(3, seed=1)
    pairs = [(0, 1), (0, 2), (1, 2)]
    each = [
        byol_loss(tuple(predictions[i] for i in p), tuple(targets[i] for i in p))
        for p in pairs
    ]
    found = total_loss(predictions, targets, "pairs")
    np.testing.assert_allclose(found, np.mean(each, 0), rtol=1e-5)


def test_mean_targets_are_fastsiams():
    """Written out with NumPy in float64: 2 - 2 cos(q, mean of the others)."""
    predictions, targets = vectors(4), vectors(4, seed=1)
    small = vectors(2, seed=2)
    z = [np.float64(t) / np.linalg.norm(t, axis=1, keepdims=True) for t in targets]

    def term(q, aims):
        mean, q = np.mean(aims, 0), np.float64(q)
        lengths = np.linalg.norm(q, axis=1) * np.linalg.norm(mean, axis=1)
        return 2 - 2 * (q * mean).sum(1) / lengths

    terms = [term(q, z[:i] + z[i + 1 :]) for i, q in enumerate(predictions)]
    terms += [term(q, z) for q in small]
    found = total_loss(predictions, targets, "mean", small)
    np.testing.assert_allclose(found, 2 * np.mean(terms, 0), rtol=1e-5)


def with_views(norm="gn_ws", **fields):
    return tiny.config(norm=norm, views=ViewsConfig(**fields))


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("how", ["mean", "pairs"])
def test_the_loss_of_a_step_is_that_of_all_its_views(accumulate, how):
    cfg = with_views(count=3, small=2, targets=how, accumulate=accumulate)
    state, _ = tiny.start(cfg)
    network, views = tiny.network(cfg), drawn(cfg.views)

    @jax.jit
    def expected(views):
        online, target = (
            partial(passed, params, {}, train=True)
            for passed, params in (
                (network.online, state.online_params),
                (network.target, state.target_params),
            )
        )
        return loss_of_views(
            [online(images=view)[0].prediction for view in views.large],
            [target(images=view)[0] for view in views.large],
            [
                online(images=view, predictor="small_predictor")[0].prediction
                for view in views.small
            ],
            how,
            l2_normalize,
        )

    gradient = jax.jit(make_gradient_of_views(network, cfg, unroll=False))
    _, forward = gradient(state, BATCH, jax.random.key(0))
    np.testing.assert_allclose(forward.loss, expected(views), rtol=1e-5)


@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_small_views_pass_through_the_stem_of_imagenet_too(norm):
    cfg = with_views(norm, small=1, small_size=16)
    assert cfg.model.stem == "imagenet"
    parts = build_parts(cfg, DataShape(80, 3, (32, 32, 3)))
    network, state, schedules = parts.network, parts.abstract_state, parts.schedules
    step = make_train_step(network, parts.optimizer, schedules, cfg, unroll=False)
    batch = {**tiny.batch(4), "image": np.zeros((4, 32, 32, 3), np.uint8)}
    after = jax.eval_shape(step, state, batch)[0]
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_one_view_at_a_time_has_the_gradient_of_all(norm):
    fields = {"count": 3, "small": 1}
    joint = tiny.run(with_views(norm, **fields))
    alone = tiny.run(with_views(norm, **fields, accumulate=True))
    tiny.assert_close(alone, joint)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_views_side_by_side_are_views_apart(norm):
    """3 views in one pass; `accumulate` passes each by itself."""
    joint = tiny.run(with_views(norm, count=3))
    tiny.assert_close(tiny.run(with_views(norm, count=3, accumulate=True)), joint)


def test_two_views_one_at_a_time_are_byol():
    tiny.assert_close(tiny.run(with_views(accumulate=True)), tiny.run(tiny.config()))


def test_accumulation_over_views_and_over_images_is_exact():
    joint = with_views(count=3, small=1)
    cut = with_views(count=3, small=1, accumulate=True)
    cut = dataclasses.replace(cut, micro_batches=2)
    tiny.assert_close(tiny.run(cut), tiny.run(joint))


def test_small_views_train_a_predictor_of_their_own():
    own, _ = tiny.run(with_views(count=3, small=1))
    first, _ = tiny.start(with_views(count=3, small=1))
    shared, _ = tiny.start(with_views(small=1, small_predictor="shared"))
    assert "small_predictor" in own.online_params
    assert "small_predictor" not in {**shared.online_params, **own.target_params}
    for layer in ("fc1", "fc2"):
        before, after = (
            np.ravel(state.online_params["small_predictor"][layer]["kernel"])
            for state in (first, own)
        )
        # Weight decay alone would shrink the kernel and keep its direction.
        turned = after - before * (after @ before) / (before @ before)
        assert np.linalg.norm(turned) > 1e-5 * np.linalg.norm(after)


@pytest.mark.parametrize(
    "accumulate, predictor",
    [pytest.param(False, "own", marks=pytest.mark.slow), (True, "shared")],
)
def test_running_statistics_are_those_of_large_views(accumulate, predictor):
    fields = {"small_predictor": predictor, "accumulate": accumulate}
    cfg = with_views("bn", small=2, **fields)
    state, _ = tiny.start(cfg)
    network, large = tiny.network(cfg), drawn(cfg.views).large
    gradient = make_gradient_of_views(network, cfg, unroll=False)
    averaged, _ = jax.jit(gradient)(state, BATCH, jax.random.key(0))
    found = averaged.online_stats
    online = (state.online_params, state.online_stats)
    _, expected = jax.jit(partial(of_views, network.online, 1))(*online, large)
    if predictor == "own":  # which no large view passes
        expected.pop("small_predictor")
        assert found.pop("small_predictor")["norm1"]["count"] == 2
    tiny.assert_close(found, expected)


@pytest.mark.slow
def test_memory_of_activations_does_not_grow_with_the_views():
    def temporary(count, accumulate):
        state, step = tiny.start(with_views(count=count, accumulate=accumulate))
        compiled = jax.jit(step).lower(state, tiny.batch()).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    alone, joint = (temporary(8, how) - temporary(3, how) for how in (True, False))
    assert alone < joint / 4


def test_small_views_are_no_larger_than_large_ones():
    data = DataShape(80, 3, (8, 12, 3))
    check_small_size(8, 8, 12)
    with pytest.raises(InputError, match="--views.small-size is 9, but .* 8x12"):
        build_parts(with_views(small=1, small_size=9), data)


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"views": ViewsConfig(count=1)}, "--views.count is 1"),
        ({"views": ViewsConfig(small=-1)}, "--views.small is -1"),
        ({"views": ViewsConfig(small_size=8)}, "add --views.small"),
        ({"views": ViewsConfig(small=1, small_area=(0.5, 0.2))}, "LOW HIGH"),
        ({"views": FOUR, "objective": "simsiam"}, "has a loss of two views"),
        (
            {"views": ViewsConfig(accumulate=True), "objective": "simsiam"},
            "simsiam needs both views in one pass; remove --views.accumulate",
        ),
    ],
)
def test_views_that_cannot_be_are_refused(fields, said):
    with pytest.raises(InputError, match=said):
        TrainConfig(**fields)


@pytest.mark.parametrize(
    "fields, together, said",
    [
        ({"count": 3}, 2, "views is 2; give 1 or 3, all views."),
        ({}, 3, "views is 3; give 1 or 2, all views."),
        ({"small": 1}, 2, "views is 2, but with small views no views .* give 1."),
        ({"accumulate": True}, 2, "views is 2, but with --views.accumulate no .* 1."),
    ],
)
def test_a_network_of_other_views_than_those_of_a_pass_is_refused(
    fields, together, said
):
    """BatchNorm would mix views, without an error."""
    cfg = with_views("bn", **fields)
    with pytest.raises(InputError, match=said):
        build_parts(cfg, DataShape(80, 3, (8, 8, 3)), views=together)
    optimizer, schedules = optax.sgd(0.1), Schedules(0.1, 0.9)
    with pytest.raises(InputError, match=said):
        make_train_step(tiny.network(cfg, together), optimizer, schedules, cfg)


@pytest.mark.parametrize("given", ["image", "crops"])
def test_the_first_view_alone_is_the_first_of_all(given):
    """T and T' differ, so the second distribution would show."""
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    batch = {"position": jnp.arange(4)}
    augment = dataclasses.replace(
        AugmentConfig(), view2=dataclasses.replace(AugmentConfig().view2, solarize=1)
    )
    pixels = images if given == "image" else np.stack([images, images], 1)
    whole = batch | {given: jnp.asarray(pixels)}
    one = batch | {given: jnp.asarray(pixels if given == "image" else pixels[:, :1])}
    key = jax.random.key(0)
    expected = all_views(key, whole, augment, ViewsConfig()).large[0]
    np.testing.assert_allclose(first_view(key, one, augment), expected, atol=1e-5)
