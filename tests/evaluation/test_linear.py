"""All rates train in one pass, each as if alone, and an interrupted fit goes on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from byol_bnfree.config import TrainConfig
from byol_bnfree.data.memory_source import MemorySource
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.encoder import Encoder
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.images import views
from byol_bnfree.evaluation.kept.unfinished import Snapshot, Unfinished
from byol_bnfree.evaluation.methods import linear
from byol_bnfree.evaluation.settings import LinearSettings
from byol_bnfree.evaluation.shown.tables import _place
from byol_bnfree.training.mesh import batch_sharding, make_mesh
from tiny import light

SETTINGS = LinearSettings(epochs=3, batch_size=16, rates=(0.4, 0.05))


class Mean:
    """A module without parameters: the mean of each channel."""

    @staticmethod
    def apply(variables, images, train=False):
        return images.mean(axis=(1, 2))


MEAN = Encoder(Mean, {}, TrainConfig(), 0)


def fit(settings=SETTINGS, snapshot=None, mesh=None):
    options = {"seed": 0, "snapshot": snapshot or Snapshot()}
    mesh = mesh or make_mesh()
    return linear.fit_probes(MEAN, light(), settings, mesh=mesh, **options)


uninterrupted = functools.cache(fit)


class Stream(MemorySource):
    """Pictures that the host crops, here not at all; notes how many crops it makes."""

    in_memory = False

    def crops(self, indices, positions, step, views=2, augment=None):
        self.made, self.augment = views, augment
        return {"crops": np.stack([self.pixels[indices]] * views, axis=1)}


@pytest.mark.parametrize("how", ["crops", "pretraining"])
def test_of_a_stream_each_picture_is_cropped_once(how):
    source = Stream(**vars(light()))
    options = {"seed": 0, "mesh": make_mesh(), "snapshot": Snapshot()}
    short = dataclasses.replace(SETTINGS, epochs=16 / 48, augmentation=how)
    assert np.isfinite(linear.fit_probes(MEAN, source, short, **options).kernel).all()
    assert source.made == 1
    own = MEAN.config.augment  # where a user's function would be
    assert source.augment == (own if how != "crops" else views.crops_and_flips(own))


def test_each_rate_trains_as_if_it_were_alone():
    alone = fit(dataclasses.replace(SETTINGS, rates=SETTINGS.rates[1:]))
    np.testing.assert_allclose(alone.kernel[0], uninterrupted().kernel[1], rtol=1e-5)


def test_a_first_step_is_nesterov_at_the_scaled_rate():
    """From zero momentum: w - rate batch / 256 (1 + 0.9) g, at the cosine's top."""
    settings = dataclasses.replace(SETTINGS, epochs=16 / 48, rates=(0.4,))
    before = linear._start(1, 3, 2, seed=0).one(0)
    batch = Batches(light(), 16, 0, batch_sharding(make_mesh()))(0)
    augment = views.crops_and_flips(TrainConfig().augment)
    view = jax.jit(lambda *batch: views.augmented_view(*batch, augment, 0))
    features = view(batch, jnp.asarray(0)).mean((1, 2))
    gradient = jax.grad(linear.mean_probe_loss)(before, features, batch["label"], False)
    expected = before.kernel - 0.4 * 16 / 256 * 1.9 * gradient.kernel
    np.testing.assert_allclose(fit(settings).kernel[0], expected, rtol=1e-5)


def test_an_interrupted_fit_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"

    def offer(self, step, tree, save=Snapshot.offer):
        save(self, step, tree)
        if step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Snapshot, "offer", offer)
        fit(snapshot=Snapshot(path, seconds=0))
    snapshot = Snapshot(path, seconds=0)
    resumed = fit(snapshot=snapshot)
    np.testing.assert_array_equal(resumed.kernel, uninterrupted().kernel)
    # It stays until the fit is scored, so a kill meanwhile costs nothing.
    scored = fit(snapshot=Snapshot(path, seconds=0))
    np.testing.assert_array_equal(scored.kernel, resumed.kernel)
    assert path.exists()


def test_the_result_of_a_fit_replaces_its_snapshot(tmp_path):
    unfinished = Unfinished(tmp_path)
    (tmp_path / "state-0.npz").touch()
    unfinished.add({"rate": 1.0}, figure=0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["points.jsonl"]


def test_two_devices_train_as_one():
    one = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    alone, together = fit(mesh=one), uninterrupted()
    np.testing.assert_allclose(alone.kernel, together.kernel, rtol=1e-4)


def test_the_best_rate_of_the_sweep_is_reported():
    found = linear.linear_evaluation(MEAN, light(), light("test"), SETTINGS)
    assert found.figures == {"top1": 1.0}  # the classes are separable
    assert [point["rate"] for point in found.sweep] == [0.4, 0.05]
    best = max(found.sweep, key=lambda point: point["validation_top1"])
    assert found.chosen == best


def test_a_rate_that_diverges_is_never_chosen():
    settings = dataclasses.replace(SETTINGS, epochs=1, rates=(1e38, 1e-6))
    found = linear.linear_evaluation(MEAN, light(), light("test"), settings)
    assert found.chosen["rate"] == 1e-6 and found.sweep[0]["validation_top1"] is None
    with pytest.raises(InputError, match="all 1 fits .* diverged.*give lower rates"):
        settings = dataclasses.replace(settings, rates=(1e38,))
        linear.linear_evaluation(MEAN, light(), light("test"), settings)


def test_clipped_logits_are_bounded_and_penalized():
    probe = linear.Probes(jnp.full((1, 2), 1e6), jnp.zeros(2))
    loss = jax.jit(linear.mean_probe_loss, static_argnums=3)
    found = loss(probe, jnp.ones((4, 1)), jnp.zeros(4, int), True)
    np.testing.assert_allclose(found, np.log(2) + 1e-2 * 20**2, rtol=1e-5)


def test_the_probes_crop_and_flip_or_see_the_views_of_pretraining():
    augment = TrainConfig().augment
    plain = views.crops_and_flips(augment)
    assert plain.view1.crop_area == augment.view1.crop_area
    assert (plain.view1.jitter, plain.view1.blur, plain.view1.grayscale) == (0, 0, 0)


def test_features_of_batchnorm_are_those_of_its_running_statistics():
    encoder = tiny.encoder("bn")
    stats = jax.tree.map(lambda x: x + 1, encoder.variables["batch_stats"])
    other = dataclasses.replace(
        encoder, variables=encoder.variables | {"batch_stats": stats}
    )
    options = {"seed": 0, "mesh": make_mesh(), "snapshot": Snapshot()}
    probes, others = (
        linear.fit_probes(one, light(), SETTINGS, **options) for one in (encoder, other)
    )
    assert not np.allclose(probes.kernel, others.kernel)


def test_the_rate_is_chosen_on_as_many_images_as_asked_for(monkeypatch):
    sizes = []

    def measured(probes, features, labels):
        sizes.append(len(labels))
        return [0.0, 1.0]

    monkeypatch.setattr(linear, "probe_accuracies", measured)
    for count in (None, 7):
        settings = dataclasses.replace(SETTINGS, epochs=1, held_out=count)
        linear.linear_evaluation(MEAN, light(), light("test"), settings)
    assert sizes == [4, 7]
    with pytest.raises(InputError, match="48 of 48 training images"):
        settings = dataclasses.replace(SETTINGS, held_out=48)
        linear.linear_evaluation(MEAN, light(), light("test"), settings)


def test_a_refit_sees_all_images_at_the_chosen_rate_alone(monkeypatch):
    fits = []

    def fitted(encoder, source, settings, **others):
        fits.append((len(source), settings.rates))
        return linear._start(len(settings.rates), 3, 2, seed=0)

    monkeypatch.setattr(linear, "fit_probes", fitted)
    settings = dataclasses.replace(SETTINGS, held_out=8, refit=True)
    found = linear.linear_evaluation(MEAN, light(), light("test"), settings)
    assert fits == [(40, (0.4, 0.05)), (48, (found.chosen["rate"],))]


def test_the_table_says_on_what_a_linear_evaluation_was_fitted():
    def title(**settings):
        return _place({"identity": {"protocol": "linear", "settings": settings}})[1]

    assert title() == title(held_out=None) == "linear, a tenth held out"
    asked = title(held_out=10_000, refit=True)
    assert asked == "linear, 10,000 held out, refitted on all"
