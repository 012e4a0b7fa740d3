"""A dense task trains what its settings say, and learns."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

import tiny
from byol_bnfree.data.dense.shapes import Scenes
from byol_bnfree.data.dense.view import DenseView, Windows
from byol_bnfree.encoder import Encoder
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.dense import evaluation, training
from byol_bnfree.evaluation.dense.drawing import (
    class_palette,
    draw_curves,
    mask_colours,
)
from byol_bnfree.evaluation.dense.evaluation import DenseResult, dense_evaluation
from byol_bnfree.evaluation.dense.settings import DepthSettings, SegmentationSettings
from byol_bnfree.evaluation.dense.sgd import step_rates
from byol_bnfree.evaluation.dense.task import Shown
from byol_bnfree.evaluation.dense.tasks import DEPTH, SEGMENTATION, unnamed_classes
from byol_bnfree.evaluation.outcome import Outcome
from byol_bnfree.training.mesh import make_mesh

SETTINGS = {SEGMENTATION: SegmentationSettings, DEPTH: DepthSettings}


@functools.cache
def view(split: str, n: int = 16) -> DenseView:
    return DenseView(Scenes(split, n, size=16), Windows((16, 16)))


def fitted(norm, steps=2, task=SEGMENTATION, rate=0.1, **fields):
    """A fitter and its network before and after some steps of a linear head."""
    fields = {"stride": 2, "batch_size": 4, "head": "linear"} | fields
    settings = SETTINGS[task](steps=steps, rates=(rate,), **fields)
    fitter = task.fitter(
        tiny.encoder(norm), view("train"), settings, seed=0, mesh=make_mesh()
    )
    start = jax.tree.map(np.array, fitter.start(view("train")))
    return fitter, start, fitter.fit(view("train"), rate)


def changed(before, after) -> set[str]:
    """Names of the leaves that changed, with the part they belong to."""
    leaves = jax.tree.leaves_with_path(before)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for (path, x), y in zip(leaves, jax.tree.leaves(after), strict=True)
        if not np.array_equal(x, y)
    }


NORM_WORDS = ("scale", "bias")


@pytest.mark.parametrize(
    "norms, scales, statistics",
    [
        ("fine-tuned", True, True),
        ("inference", True, False),
        ("frozen", False, False),
    ],
)
@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_norms_are_fine_tuned_in_inference_mode_or_frozen(
    norm, norms, scales, statistics
):
    _, start, end = fitted(norm, norms=norms)
    params = changed(start.params, end.params)
    own = {name for name in params if name.startswith("encoder/")}
    assert any(name.endswith("kernel") for name in own)
    assert any(name.endswith(NORM_WORDS) for name in own) == scales
    stats = changed(start.stats["encoder"], end.stats["encoder"])
    assert bool(stats) == (statistics and norm == "bn")


def test_for_group_norm_fine_tuned_and_inference_are_one():
    tuned, inference = (
        fitted("gn_ws", norms=norms)[2].params for norms in ("fine-tuned", "inference")
    )
    tiny.assert_close(tuned, inference)


@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_a_frozen_encoder_stays_as_it_is(norm):
    fitter, start, end = fitted(norm, encoder="frozen")
    assert all(name.startswith("head/") for name in changed(start.params, end.params))
    assert not changed(start.stats, end.stats)
    jax.tree.map(
        np.testing.assert_array_equal,
        fitter.encoder.variables["params"],
        end.params["encoder"],
    )


def test_the_rate_falls_tenfold_at_70_and_90_percent():
    rates = step_rates(0.5, 100)
    found = [float(rates(step)) for step in (0, 69, 71, 89, 91, 99)]
    np.testing.assert_allclose(found, [0.5, 0.5, 0.05, 0.05, 0.005, 0.005], rtol=1e-5)
    # 0.7 * 90 is 62.99... as a number.
    assert [float(step_rates(1.0, 90)(n)) for n in (62, 63)] == pytest.approx([1, 0.1])


def test_a_warm_up_rises_from_a_third_in_at_most_a_tenth_of_the_steps():
    rates = step_rates(0.6, 10_000, warmup=500)
    found = [float(rates(step)) for step in (0, 250, 500, 6_999)]
    np.testing.assert_allclose(found, [0.2, 0.4, 0.6, 0.6], rtol=1e-5)
    assert float(step_rates(0.5, 1)(0)) == 0.5  # the only step
    short, none = step_rates(0.6, 100, warmup=500), step_rates(0.6, 9, warmup=500)
    np.testing.assert_allclose([float(short(5)), float(short(10))], [0.4, 0.6])
    assert float(none(0)) == pytest.approx(0.6)


def test_a_fit_is_fixed_by_its_seed_and_leaves_the_encoder():
    before = jax.tree.map(np.array, tiny.encoder("gn_ws").variables)
    first, again = (fitted("gn_ws")[2].params for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    jax.tree.map(np.testing.assert_array_equal, before, tiny.encoder("gn_ws").variables)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_scenes_are_learned_well_above_chance(norm):
    settings = SegmentationSettings(
        steps=480, batch_size=8, rates=(0.3,), stride=1, head="linear"
    )
    found = dense_evaluation(
        SEGMENTATION,
        tiny.encoder(norm),
        view("train", 64),
        view("test", 32),
        settings,
        say=lambda text: None,
    )
    masks = np.stack([view("test", 32).source.example(i)["mask"] for i in range(32)])
    chance = np.mean(masks == 0) / 9  # all wall
    assert found.outcome.figures["miou"] > 2 * chance
    assert found.losses[-1][1] < 0.5 * found.losses[0][1]
    assert [point["step"] for point in found.curve] == [96, 192, 288, 384, 480]


def test_fits_that_choose_a_rate_may_be_shorter(monkeypatch):
    lengths = []

    def untrained(step, state, batches, total, snapshot, fit):
        lengths.append(total)
        return state

    monkeypatch.setattr(training, "train_loop", untrained)
    settings = DepthSettings(
        steps=4, trial_steps=1, batch_size=4, rates=(1e-6, 0.05), head="linear"
    )
    dense_evaluation(
        DEPTH, tiny.encoder("gn_ws"), view("train"), view("test"), settings
    )
    assert lengths == [1, 1, 4]


def test_several_rates_are_compared_on_held_out_pictures():
    settings = DepthSettings(
        steps=3, batch_size=4, rates=(1e-6, 0.05), head="linear", colour=False
    )
    found = dense_evaluation(
        DEPTH, tiny.encoder("gn_ws"), view("train"), view("test"), settings
    ).outcome
    assert [point["rate"] for point in found.sweep] == [1e-6, 0.05]
    best = min(found.sweep, key=lambda point: point["validation_rel"])
    assert found.chosen == best
    assert set(found.figures) == {"pct1", "pct2", "pct3", "rel", "rms"}


@pytest.mark.parametrize("colours", [True, False])
def test_depth_draws_colours_only_for_channels_that_are_colours(colours):
    encoder = tiny.encoder("gn_ws")
    augment = dataclasses.replace(encoder.config.augment, colours=colours)
    config = dataclasses.replace(encoder.config, augment=augment)
    same = Encoder(encoder.module, encoder.variables, config, 0)
    fitter = DEPTH.fitter(
        same, view("train"), DepthSettings(), seed=0, mesh=make_mesh()
    )
    assert (fitter.colours is not None) is colours


@pytest.mark.parametrize("classes", range(2, 60))
def test_ignored_pixels_have_the_colour_of_no_class(classes):
    mask = np.array([[classes - 1, 0]])
    colours = mask_colours(mask, np.array([[False, True]]), classes)
    assert (np.abs(class_palette(classes) - colours[0, 1]).max(1) > 0.02).all()


@pytest.mark.parametrize(
    ("rates", "best", "most", "further"),
    [
        ((0.01, 0.1, 0.3), 0.1, 3, []),  # inside
        ((0.01, 0.1), 9.0, 0, []),  # none was allowed
        ((0.01, 0.1), 9.0, 2, [1.0, 10.0]),
        ((0.1, 0.01), 99.0, 2, [1.0, 10.0]),  # no more than allowed
        ((0.01, 0.1), 1e-3, 5, [1e-3, 1e-4]),
        ((0.1, 0.1), 9.0, 2, []),  # no ratio
    ],
)
def test_rates_go_on_while_the_best_is_at_an_end(
    monkeypatch, rates, best, most, further
):
    """The figure of a trial is the distance of its rate from the best one."""

    def trial(task, fitter, views, rate):
        return abs(np.log(rate / best))

    monkeypatch.setattr(evaluation, "_trial", trial)
    settings = DepthSettings(
        steps=1, batch_size=4, rates=rates, further_rates=most, head="linear"
    )
    data = view("train"), view("test", 4)
    found = dense_evaluation(DEPTH, tiny.encoder("gn_ws"), *data, settings).outcome
    tried = [point["rate"] for point in found.sweep]
    np.testing.assert_allclose(tried, [*rates, *further])
    assert found.chosen == min(found.sweep, key=lambda point: point["validation_rel"])


def test_a_fit_that_diverges_is_never_chosen_nor_reported(monkeypatch):
    def measure(*rates):
        settings = DepthSettings(steps=1, batch_size=4, rates=rates, head="linear")
        data = view("train"), view("test", 4)
        return dense_evaluation(DEPTH, tiny.encoder("gn_ws"), *data, settings).outcome

    fit = training.Fitter.fit

    def diverging(self, view, rate, *watch, **steps):
        """Stand for SGD at a high rate: it ends with parameters that are NaN."""
        if rate < 1:
            return fit(self, view, rate, *watch, **steps)
        start = self.start(view)
        return start._replace(params=jax.tree.map(lambda x: x * np.nan, start.params))

    monkeypatch.setattr(training.Fitter, "fit", diverging)
    # The constant answer of a diverged fit may be better than that of one step.
    found = measure(1e3, 1e-9)
    assert found.chosen["rate"] == 1e-9 and found.sweep[0]["validation_rel"] is None
    with pytest.raises(InputError, match="all 2 fits .* diverged.*give lower rates"):
        measure(1e3, 1e2)
    with pytest.raises(InputError, match="the rate 1000 diverged.*lower rates"):
        measure(1e3)


def test_the_end_of_a_fit_is_finite_or_an_error():
    with pytest.raises(InputError, match="the rate 1e\\+38 diverged.*lower rates"):
        fitted("gn_ws", rate=1e38)


def test_the_last_batch_counts_its_true_rows_only():
    fitter, _, end = fitted("gn_ws", steps=1)
    counts = [count for _, _, count in fitter.outputs(end, view("test", 6))]
    assert counts == [4, 2]


def test_six_examples_are_shown_however_small_the_batches():
    shown = Shown()
    for start in range(0, 10, 2):
        images = np.arange(start, start + 2)[:, None]
        shown.add({"image": images}, -images, 1 if start == 2 else 2)
    score = shown.score({})
    assert score.examples["image"].ravel().tolist() == [0, 1, 2, 4, 5, 6]
    assert score.predicted.ravel().tolist() == [0, -1, -2, -4, -5, -6]


def test_the_number_of_unnamed_classes_is_said():
    settings = SegmentationSettings(stride=2, head="linear")
    of = tiny.encoder("gn_ws"), view("train"), settings
    fitter = SEGMENTATION.fitter(*of, seed=0, mesh=make_mesh())
    assert unnamed_classes(fitter, view("train")) is None
    source = dataclasses.replace(view("train").source, class_names=("0", "1", "2"))
    said = unnamed_classes(fitter, dataclasses.replace(view("train"), source=source))
    assert "has 3 classes" in said and "classes.txt" in said


def test_curves_of_a_fit_that_had_ended_before_are_empty():
    outcome = Outcome({}, {"rate": 0.1})
    found = DenseResult(outcome, None, [], [], None)
    left, right = draw_curves(DEPTH, found).axes
    assert not right.lines and left.lines[0].get_xdata().size == 0
