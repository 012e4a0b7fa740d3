"""The papers' linear evaluation: SGD on a frozen encoder's augmented features.

P1 appendix C.1 (https://arxiv.org/abs/2006.07733): encoder in inference mode, crops
and flips, SGD with Nesterov momentum 0.9, 80 epochs, cosine to 0, batch 1024, no decay,
five learning rates. All rates are trained at once: the encoder's pass, which is what
costs, is shared. What P1 leaves open follows DeepMind's code: rates are scaled by
batch / 256, kernels start as truncated normal 1/sqrt(d). The probe of the chosen rate
is reported as it is, without a second fit on the held-out images.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from byol_bnfree.config import AugmentConfig
from byol_bnfree.data.sources import Source
from byol_bnfree.evaluation.config import LinearSettings
from byol_bnfree.evaluation.features import encoder_features
from byol_bnfree.evaluation.metrics import top_k_accuracy
from byol_bnfree.evaluation.outcome import Outcome, top_figures
from byol_bnfree.evaluation.subset import Subset, hold_out
from byol_bnfree.evaluation.unfinished import Snapshot
from byol_bnfree.evaluation.views import (
    augmented_view,
    crops_and_flips,
    labelled_batches,
    train_loop,
    whole_steps,
)
from byol_bnfree.models.norm import fan_in_init
from byol_bnfree.pretrained import Encoder
from byol_bnfree.training.mesh import make_mesh, replicated

PAPER = LinearSettings()
MOMENTUM = 0.9
CLIP, CLIP_PENALTY = 20.0, 1e-2  # P1 Table 7: 20 tanh(x / 20), 1e-2 mean of squares


class Probes(NamedTuple):
    """One linear classifier for each learning rate."""

    kernel: Float[Array, "r d k"]
    bias: Float[Array, "r k"]


def linear_evaluation(
    encoder: Encoder,
    train: Source,
    test: Source,
    settings: LinearSettings = PAPER,
    *,
    seed: int = 0,
    mesh: Mesh | None = None,
    features: Callable[[Source], np.ndarray] | None = None,
    snapshot: Snapshot | None = None,
) -> Outcome:
    """Top-1 and top-5 on test of the probe whose rate is best on a tenth of train.

    Args:
      features: representations of a source; `encoder_features` by default.
      snapshot: keeps an unfinished fit.

    Returns: figures `top1`, `top5`; chosen `rate`, its `validation_top1`.
    """
    mesh = mesh or make_mesh()
    features = features or partial(encoder_features, encoder, mesh=mesh)
    held_out = hold_out(len(train), seed)
    probes = fit_probes(
        encoder,
        Subset(train, np.flatnonzero(~held_out)),
        settings,
        seed=seed,
        mesh=mesh,
        snapshot=snapshot or Snapshot(),
    )
    top1s = probe_accuracies(
        probes, features(train)[held_out], train.labels()[held_out]
    )
    best = int(np.argmax(top1s))
    sweep = [
        {"rate": rate, "validation_top1": top1}
        for rate, top1 in zip(settings.rates, top1s, strict=True)
    ]
    scores = np.asarray(probe_scores(probes, features(test)))[best]
    return Outcome(top_figures(scores, test.labels()), sweep[best], sweep)


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
    total = whole_steps(settings.epochs, len(source), settings.batch_size)
    augment = encoder.config.augment
    if settings.augmentation == "crops":
        augment = crops_and_flips(augment)
    batches = labelled_batches(source, encoder.config, mesh, settings.batch_size, seed)
    variables = jax.device_put(encoder.variables, replicated(mesh))
    image = jnp.zeros((1, *source.image_shape))
    width = jax.eval_shape(encoder.module.apply, encoder.variables, image).shape[1]
    probes = _start(len(settings.rates), width, source.num_classes, seed)
    state = jax.device_put((probes, optimizer().init(probes)), replicated(mesh))
    step = _make_step(encoder, augment, settings, total, seed)
    state = train_loop(
        lambda state, batch, index: step(state, variables, batch, index),
        state,
        batches,
        total,
        snapshot,
    )
    return state[0]


def probe_accuracies(
    probes: Probes,
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
) -> list[float]:
    """Top-1 of every probe."""
    scores = np.asarray(probe_scores(probes, features))
    return [top_k_accuracy(one, labels, 1) for one in scores]


@jax.jit
def probe_scores(
    probes: Probes, features: Float[Array | np.ndarray, "b d"]
) -> Float[Array, "r b k"]:
    """Logits of every probe."""
    features = jnp.asarray(features, jnp.float32)
    return jnp.einsum("bd,rdk->rbk", features, probes.kernel) + probes.bias[:, None]


def probe_loss(
    probes: Probes,
    features: Float[Array, "b d"],
    labels: Int[Array, " b"],
    logit_clip: bool,
) -> Float[Array, ""]:
    """Sum over probes of the mean cross-entropy: each has the gradient of its own."""
    scores, penalty = probe_scores(probes, features), 0.0
    if logit_clip:
        scores = CLIP * jnp.tanh(scores / CLIP)
        penalty = CLIP_PENALTY * jnp.mean(jnp.square(scores), (1, 2)).sum()
    labels = jnp.broadcast_to(labels[None, :], scores.shape[:2])
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
    return losses.mean(axis=1).sum() + penalty


def optimizer() -> optax.GradientTransformation:
    """Nesterov momentum; the learning rate comes after it."""
    return optax.trace(MOMENTUM, nesterov=True)


def _start(rates: int, width: int, classes: int, seed: int) -> Probes:
    kernel = fan_in_init(jax.random.key(seed), (width, classes))
    return Probes(jnp.stack([kernel] * rates), jnp.zeros((rates, classes)))


def _make_step(
    encoder: Encoder,
    augment: AugmentConfig,
    settings: LinearSettings,
    total: int,
    seed: int,
) -> Callable:
    peaks = jnp.array(settings.rates) * settings.batch_size / 256
    cosine = optax.cosine_decay_schedule(1.0, total)

    @jax.jit
    def step(state, variables, batch, index):
        probes, momentum = state
        images = augmented_view(batch, index, augment, seed)
        features = encoder.module.apply(variables, images, False)
        loss, gradient = jax.value_and_grad(probe_loss)(
            probes, features, batch["label"], settings.logit_clip
        )
        update, momentum = optimizer().update(gradient, momentum)
        rates = peaks * cosine(index)
        probes = Probes(
            probes.kernel - rates[:, None, None] * update.kernel,
            probes.bias - rates[:, None] * update.bias,
        )
        return (probes, momentum), loss / len(settings.rates)

    return step
