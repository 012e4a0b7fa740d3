"""Linear evaluation as in the papers: SGD on augmented features of a frozen encoder.

P1 appendix C.1 (https://arxiv.org/abs/2006.07733) trains for 80 epochs with crops and
flips, SGD with Nesterov momentum 0.9, a cosine to 0, batch 1024, no weight decay, and
five learning rates. The encoder is in inference mode. We train all rates at once, so
they share the encoder's pass, which dominates the cost.

Where P1 is silent we follow DeepMind's code: rates are scaled by batch / 256, and
kernels start from a truncated normal with 1/sqrt(d). Held-out images choose the rate: a
tenth, or a given number. The chosen probe is reported as it is, or fitted again on all
training images (`LinearSettings.refit`).
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from byol_bnfree.data.pipeline import Batches
from byol_bnfree.data.sources import Source
from byol_bnfree.encoder import Encoder
from byol_bnfree.epochs import whole_steps
from byol_bnfree.evaluation.config import check_settings
from byol_bnfree.evaluation.diverged import best_of, check_finite
from byol_bnfree.evaluation.features import encoder_features, feature_width
from byol_bnfree.evaluation.images.subset import Subset, rows_held_out
from byol_bnfree.evaluation.images.views import (
    augmented_view,
    crops_and_flips,
    train_loop,
)
from byol_bnfree.evaluation.kept.fitted import Fitted
from byol_bnfree.evaluation.kept.unfinished import NOTHING, Snapshot, Unfinished
from byol_bnfree.evaluation.methods.metrics import top_k_accuracy
from byol_bnfree.evaluation.momentum import MOMENTUM
from byol_bnfree.evaluation.outcome import Outcome, top_figures
from byol_bnfree.evaluation.settings import LinearSettings
from byol_bnfree.models.initializers import fan_in_init
from byol_bnfree.training.mesh import batch_sharding, make_mesh, replicated

PAPER = LinearSettings()
CLIP, CLIP_PENALTY = 20.0, 1e-2  # P1 Table 7: 20 tanh(x / 20), 1e-2 mean of squares


class Probes(NamedTuple):
    """One linear classifier per learning rate; `one` has no axis r."""

    kernel: Float[Array, "*r d k"]
    bias: Float[Array, "*r k"]

    def one(self, index: int) -> "Probes":
        """Return the probe of one rate."""
        return Probes(self.kernel[index], self.bias[index])


def linear_evaluation(
    encoder: Encoder,
    train: Source,
    test: Source,
    settings: LinearSettings = PAPER,
    *,
    seed: int = 0,
    mesh: Mesh | None = None,
    features: Callable[[Source], np.ndarray] | None = None,
    unfinished: Unfinished = NOTHING,
) -> Outcome:
    """Fit a probe per rate; report top-1 and top-5 of the best on held-out images.

    Args:
      encoder: the frozen encoder.
      train: labelled images to fit on and to choose the rate.
      test: labelled images to report on.
      settings: epochs, batch size, rates and so on.
      seed: draws held-out images, batches, augmentation and initial kernels.
      mesh: devices; None takes all.
      features: function from a source to features [n d]; `encoder_features` by default.
      unfinished: stores the state of fits, so that they can resume.

    Returns:
      The `top_figures` of the test images, and the chosen `rate` with its
      `validation_top1`.

    Raises:
      InputError: if a setting is impossible, or no image would be left for training.
      FitDiverged: if the probes of all rates diverge.
    """
    check_settings("linear.", settings)
    mesh = mesh or make_mesh()
    features = features or partial(encoder_features, encoder, mesh=mesh)
    rows = rows_held_out(len(train), seed, settings.held_out)
    source, valid = (Subset(train, some) for some in rows)
    fit = partial(fit_probes, encoder, seed=seed, mesh=mesh)
    probes = fit(source, settings, snapshot=unfinished.snapshot({}))
    # Only the fit sees random crops. Accuracy is that of whole images.
    top1s = probe_accuracies(probes, features(valid), valid.labels())
    sweep = [
        {"rate": rate, "validation_top1": top1}
        for rate, top1 in zip(settings.rates, top1s, strict=True)
    ]
    best = best_of(top1s)
    probe = probes.one(best)
    if settings.refit:
        alone = dataclasses.replace(settings, rates=(settings.rates[best],))
        again = unfinished.snapshot({"refit": settings.rates[best]})
        probe = fit(train, alone, snapshot=again).one(0)
    scores = np.asarray(probe_scores(probe, features(test)))
    check_finite(scores, f"the fit at the rate {settings.rates[best]:g}")
    figures = top_figures(scores, test.labels())
    return Outcome(figures, sweep[best], sweep, Fitted(*probe))


def fit_probes(
    encoder: Encoder,
    source: Source,
    settings: LinearSettings,
    *,
    seed: int,
    mesh: Mesh,
    snapshot: Snapshot,
) -> Probes:
    """Train the probes of all rates on augmented images of `source`."""
    total = max(1, whole_steps(settings.epochs, len(source), settings.batch_size))
    augment = encoder.config.augment
    if settings.augmentation == "crops":
        augment = crops_and_flips(augment)
    # A probe sees one crop of an image at a time. A second would be made for nothing.
    batches = Batches(
        source,
        settings.batch_size,
        seed,
        batch_sharding(mesh),
        views=1,
        augment=augment,
    )
    variables = jax.device_put(encoder.variables, replicated(mesh))
    width = feature_width(encoder, source)
    probes = _start(len(settings.rates), width, source.num_classes, seed)
    state = jax.device_put((probes, optimizer().init(probes)), replicated(mesh))
    peaks = jnp.array(settings.rates) * settings.batch_size / 256
    cosine = optax.cosine_decay_schedule(1.0, total)
    static = {"module": encoder.module, "augment": augment, "seed": seed}
    static["logit_clip"] = settings.logit_clip

    def step(state, batch, index):
        rates = peaks * cosine(index)
        return _step(state, (variables, rates), batch, index, **static)

    return train_loop(step, state, batches, total, snapshot)[0]


def probe_accuracies(
    probes: Probes,
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
) -> list[float | None]:
    """Return top-1 of every probe; None for one that diverged.

    One by one, because all logits together may be large.
    """
    found = []
    for index in range(len(probes.bias)):
        scores = np.asarray(probe_scores(probes.one(index), features))
        finite = np.isfinite(scores).all()
        found.append(top_k_accuracy(scores, labels, 1) if finite else None)
    return found


@jax.jit
def probe_scores(
    probe: Probes, features: Float[Array | np.ndarray, "b d"]
) -> Float[Array, "b k"]:
    """Return the logits of one probe."""
    return jnp.asarray(features, jnp.float32) @ probe.kernel + probe.bias[None, :]


def mean_probe_loss(
    probe: Probes,
    features: Float[Array, "b d"],
    labels: Int[Array, " b"],
    logit_clip: bool,
) -> Float[Array, ""]:
    """Return the mean cross-entropy of one probe. See P1 Table 7 for `logit_clip`."""
    scores, penalty = probe_scores(probe, features), 0.0
    if logit_clip:
        scores = CLIP * jnp.tanh(scores / CLIP)
        penalty = CLIP_PENALTY * jnp.mean(jnp.square(scores))
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
    return losses.mean() + penalty


def optimizer() -> optax.GradientTransformation:
    """Return Nesterov momentum. The learning rate is applied after it."""
    return optax.trace(MOMENTUM, nesterov=True)


def _start(rates: int, width: int, classes: int, seed: int) -> Probes:
    kernel = fan_in_init(jax.random.key(seed), (width, classes))
    return Probes(jnp.stack([kernel] * rates), jnp.zeros((rates, classes)))


@partial(jax.jit, static_argnames=("module", "augment", "seed", "logit_clip"))
def _step(state, fixed, batch, index, *, module, augment, seed, logit_clip):
    """Take one step of SGD for every probe; also return the smallest loss before it."""
    (probes, momentum), (variables, rates) = state, fixed
    images = augmented_view(batch, index, augment, seed)
    features = module.apply(variables, images, False)
    loss_and_grad = jax.vmap(jax.value_and_grad(mean_probe_loss), (0, None, None, None))
    losses, gradient = loss_and_grad(probes, features, batch["label"], logit_clip)
    update, momentum = optimizer().update(gradient, momentum)
    probes = Probes(
        probes.kernel - rates[:, None, None] * update.kernel,
        probes.bias - rates[:, None] * update.bias,
    )
    return (probes, momentum), jnp.nanmin(losses)  # high rates may diverge
