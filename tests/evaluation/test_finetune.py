"""One loop trains whole networks, and its sweeps go on where they stopped."""

from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation import (
    finetune_evaluation,
    semi_supervised_evaluation,
    supervised_evaluation,
)
from byol_bnfree.evaluation.images.subset import class_balanced, hold_out
from byol_bnfree.evaluation.images.views import train_loop
from byol_bnfree.evaluation.kept.unfinished import NOTHING, Unfinished
from byol_bnfree.evaluation.methods.finetune import (
    Trial,
    Tuner,
    rate_schedule,
)
from byol_bnfree.evaluation.methods.sweep import sweep
from byol_bnfree.evaluation.methods.tuning import (
    finetune_trials,
    labelled_subset,
    semi_trials,
)
from byol_bnfree.evaluation.momentum import momentum_update
from byol_bnfree.evaluation.settings import (
    FinetuneSettings,
    SemiSettings,
    SupervisedSettings,
)
from byol_bnfree.training.mesh import make_mesh
from tiny import light

LABELS = np.repeat([0, 1, 2], 20)
BATCH = 16  # of every fit here, so that a norm compiles one step


def balanced(labels, count, seed=0):
    return class_balanced(labels, count, ("a", "b", "c"), seed)


def tuner(norm: str = "gn_ws", folder=None) -> Tuner:
    return Tuner(tiny.encoder(norm), BATCH, 0, make_mesh(), Unfinished(folder))


def test_a_subset_has_as_many_of_every_class_and_is_fixed_by_the_seed():
    rows = balanced(LABELS, 4)
    assert np.bincount(LABELS[rows]).tolist() == [4, 4, 4]
    np.testing.assert_array_equal(rows, balanced(LABELS, 4))
    assert not np.array_equal(rows, balanced(LABELS, 4, seed=1))


def test_a_class_with_fewer_images_than_asked_for_is_named():
    with pytest.raises(InputError, match="class 'b' has 20 images .* 21 are needed"):
        balanced(np.append(LABELS, [0, 2]), 21)


def test_labelled_images_are_none_of_those_that_choose_the_setting():
    source = light(n=100)
    few, many = (labelled_subset(source, share, seed=0) for share in (0.1, 0.8))
    assert np.bincount(source.labels(few)).tolist() == [5, 5] and len(many) == 80
    assert not np.isin(many, np.flatnonzero(hold_out(100, seed=0))).any()


@pytest.mark.parametrize("nesterov", [True, False])
def test_the_update_has_momentum_and_decay_of_kernels_only(nesterov):
    """Written out: m = 0.9 m + g + decay w, and Nesterov's update looks one ahead."""
    params = {
        "conv": {"kernel": jnp.array([1.0, -2.0])},
        "norm": {"scale": jnp.array([3.0])},
    }
    gradient = jax.tree.map(lambda p: 0.5 * p, params)
    momentum = jax.tree.map(jnp.zeros_like, params)
    kernel, scale = np.zeros(2), np.zeros(1)
    for _ in range(3):
        update, momentum = momentum_update(
            gradient, params, momentum, jnp.float32(0.1), nesterov=nesterov
        )
        ahead = {}
        for name, now, old in (
            ("kernel", np.array([0.6, -1.2]), kernel),
            ("scale", np.array([1.5]), scale),
        ):
            new = 0.9 * old + now
            ahead[name] = now + 0.9 * new if nesterov else new
            old[:] = new
        np.testing.assert_allclose(update["conv"]["kernel"], ahead["kernel"], rtol=1e-6)
        np.testing.assert_allclose(update["norm"]["scale"], ahead["scale"], rtol=1e-6)


def test_the_rate_warms_up_to_its_scaled_peak_and_falls_to_zero():
    schedule = rate_schedule(Trial(0.2, 10, warmup_epochs=2), 64, 128, total=5)
    np.testing.assert_allclose([schedule(0), schedule(1), schedule(5)], [0, 0.1, 0])
    assert rate_schedule(Trial(0.2, 10), 64, 128, 5)(0) == pytest.approx(0.1)


def test_the_sweeps_are_the_papers():
    few, full = semi_trials(SemiSettings()), FinetuneSettings()
    assert len(few) == 10 and {trial.epochs for trial in few} == {30, 50}
    trials = finetune_trials(full, num_examples=25_600 * 4)
    assert len(trials) == 7 * 8
    assert trials[-1].weight_decay == pytest.approx(1e-3 / 1e-1)
    assert trials[0].epochs == 50 and trials[0].bn_decay == pytest.approx(1 - 10 / 400)


@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_few_labels_teach_a_network_and_leave_the_encoder_as_it_was(norm):
    encoder = tiny.encoder(norm)
    before = jax.tree.map(np.array, encoder.variables)
    settings = SemiSettings((0.5,), (0.5, 1e-6), (8.0,), BATCH)
    found = semi_supervised_evaluation(
        encoder, light(), light("test"), 0.5, settings=settings
    )
    assert found.chosen["rate"] == 0.5 and found.figures["top1"] > 0.9
    assert [point["rate"] for point in found.sweep] == [0.5, 1e-6]
    jax.tree.map(np.testing.assert_array_equal, before, encoder.variables)


def test_a_trial_that_diverges_is_never_chosen_and_the_sweep_goes_on():
    trials = [Trial(1e30, 1.0), Trial(1e-6, 1.0)]
    found = sweep(tuner(), light(), light("test"), trials)
    assert found.best == trials[1] and found.tuned is not None
    assert found.points[0]["validation_top1"] is None


def test_diverged_fits_end_with_a_sentence_that_names_the_rate():
    with pytest.raises(InputError, match="all 1 fits .* diverged.*give lower rates"):
        sweep(tuner(), light(), light("test"), [Trial(1e30, 1.0)])
    settings = SupervisedSettings(rate=1e30, epochs=1.0, batch_size=BATCH)
    with pytest.raises(InputError, match="the rate 1e\\+30 diverged.*lower rates"):
        supervised_evaluation(
            tiny.encoder("gn_ws"), light(), light("test"), settings=settings
        )


def test_an_interrupted_sweep_repeats_no_finished_trial(tmp_path, monkeypatch):
    fit, rates = Tuner.fit, []

    def counted(self, source, trial):
        rates.append(trial.rate)
        if len(rates) == 2:
            raise KeyboardInterrupt
        return fit(self, source, trial)

    monkeypatch.setattr(Tuner, "fit", counted)
    trials = [Trial(0.5, 1.0), Trial(0.05, 1.0)]
    for _ in range(2):
        try:
            found = sweep(tuner(folder=tmp_path), light(), light("test"), trials)
        except KeyboardInterrupt:
            continue
    assert rates == [0.5, 0.05, 0.05]
    assert [point["rate"] for point in found.points] == [0.5, 0.05]


def test_all_labels_refit_on_the_held_out_images_too(monkeypatch):
    sizes = []

    def counted(self, source, trial, fit=Tuner.fit):
        sizes.append((len(source), trial.weight_decay, round(trial.epochs, 2)))
        return fit(self, source, trial)

    monkeypatch.setattr(Tuner, "fit", counted)
    settings = FinetuneSettings(3, BATCH, (0.1,), (0.0, 1e-3))
    found = finetune_evaluation(tiny.encoder("gn_ws"), light(), light("test"), settings)
    assert sizes[:2] == [(44, 0.0, 1.09), (44, 0.01, 1.09)]
    assert sizes[2] == (48, found.chosen["weight_decay"], 1.0)


def test_a_network_learns_from_scratch_with_all_labels():
    settings = SupervisedSettings(6.0, 0.2, warmup_epochs=1.0, batch_size=BATCH)
    found = supervised_evaluation(
        tiny.encoder("gn_ws"), light(), light("test"), settings
    )
    assert found.figures["top1"] > 0.9 and found.chosen == {}


@pytest.mark.parametrize("fit, steps", [("the fit", 4), (None, 9)])
def test_a_fit_ends_soon_after_its_loss_is_no_number(fit, steps, monkeypatch):
    """The loss of step 3 is read while step 4 runs."""
    taken = []

    def step(state, batch, index):
        taken.append(int(index) + 1)
        return state, jnp.float32(np.nan if len(taken) >= 3 else 1.0)

    def iterate(self, start, total):
        return ({} for _ in range(start, total))

    monkeypatch.setattr(Batches, "iterate", iterate)
    batches, snapshot = object.__new__(Batches), NOTHING.snapshot({})
    ends = pytest.raises(InputError, match="the fit diverged") if fit else nullcontext()
    with ends:
        train_loop(step, {}, batches, 9, snapshot, fit)
    assert taken == list(range(1, steps + 1))
