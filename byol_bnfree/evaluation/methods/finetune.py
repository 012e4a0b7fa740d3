"""Training of a whole network with labels. All such protocols share this loop.

P1, the BYOL paper (https://arxiv.org/abs/2006.07733), describes it in appendices C.1
and D.3: crops and flips, SGD with Nesterov momentum 0.9, a linear head. P1 leaves some
details open. We chose a cosine to 0, rates scaled by batch / 256, and one rate for
encoder and head. BatchNorm trains with the statistics of the (global) batch and is
evaluated with its running statistics.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

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
from byol_bnfree.evaluation.diverged import check_finite, diverged
from byol_bnfree.evaluation.features import (
    NotFinite,
    extract_features,
    feature_width,
)
from byol_bnfree.evaluation.images.views import (
    augmented_view,
    crops_and_flips,
    train_loop,
)
from byol_bnfree.evaluation.kept.fitted import Fitted
from byol_bnfree.evaluation.kept.unfinished import NOTHING, Unfinished
from byol_bnfree.evaluation.momentum import momentum_update
from byol_bnfree.models.batch_norm import BN_DECAY
from byol_bnfree.models.initializers import fan_in_init
from byol_bnfree.represent import represent, variables_of
from byol_bnfree.training.mesh import batch_sharding, replicated, whole_multiple
from byol_bnfree.training.running_stats import settled, with_decay

SCORING_BATCH = 512  # images per step when a fitted network is scored


class Trial(NamedTuple):
    """One candidate of a sweep."""

    rate: float
    """Peak learning rate for a batch of 256; it is multiplied by batch_size / 256."""
    epochs: float
    weight_decay: float = 0.0
    """Weight decay of kernels, added to their gradient."""
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    bn_decay: float = BN_DECAY
    """Decay of BatchNorm's running statistics."""


class Now(NamedTuple):
    """The numbers of one step. As arguments, they let all trials share one program."""

    rate: Float[Array, ""] | float
    weight_decay: float
    label_smoothing: float
    bn_decay: float


class Tuned(NamedTuple):
    """A network with its head, and the optimizer's momentum."""

    params: Any
    """{"encoder": ..., "head": {"kernel": [d, k], "bias": [k]}}."""
    stats: Any
    """BatchNorm's running statistics; {} without BatchNorm."""
    momentum: Any

    def fitted(self) -> Fitted:
        """Return the head and the variables of its encoder."""
        head = self.params["head"]
        variables = variables_of(self.params["encoder"], self.stats)
        return Fitted(head["kernel"], head["bias"], variables)


@dataclass(frozen=True)
class Tuner:
    """Trains copies of an encoder. Each gets a new head, which the seed draws."""

    encoder: Encoder
    batch_size: int
    seed: int
    mesh: Mesh
    unfinished: Unfinished = NOTHING

    def fit(self, source: Source, trial: Trial) -> Tuned:
        """Train a copy on augmented images of `source`.

        Batches and augmentation depend on (seed, step) only.

        Raises:
          FitDiverged: if its numbers are no longer finite.
        """
        size = self.batch_size
        total = max(1, whole_steps(trial.epochs, len(source), size))
        schedule = rate_schedule(trial, len(source), size, total)
        augment = crops_and_flips(self.encoder.config.augment)
        fixed = trial.weight_decay, trial.label_smoothing, trial.bn_decay
        static = {"module": self.encoder.module, "augment": augment, "seed": self.seed}

        def step(state, batch, index):
            return _step(state, batch, index, Now(schedule(index), *fixed), **static)

        tuned = train_loop(
            step,
            jax.device_put(self.start(source), replicated(self.mesh)),
            Batches(
                source,
                size,
                self.seed,
                batch_sharding(self.mesh),
                views=1,
                augment=augment,
            ),
            total,
            self.unfinished.snapshot(self.describe(source, trial)),
            name := f"the fit at the rate {trial.rate:g}",
        )
        check_finite(tuned, name)
        return tuned

    def start(self, source: Source) -> Tuned:
        """Return the encoder with a new head for the classes of `source`."""
        classes = source.num_classes
        shape = feature_width(self.encoder, source), classes
        kernel = fan_in_init(jax.random.key(self.seed), shape)
        # A step donates its state, so we copy: the encoder is needed again.
        fresh = jax.tree.map(jnp.copy, self.encoder.variables)
        head = {"kernel": kernel, "bias": jnp.zeros(classes)}
        params = {"encoder": fresh["params"], "head": head}
        zeros = jax.tree.map(jnp.zeros_like, params)
        return Tuned(params, settled(fresh.get("batch_stats", {})), zeros)

    def scores(self, tuned: Tuned, source: Source) -> Float[np.ndarray, "n k"]:
        """Return the logits [n k] of all images of a source, in inference mode.

        Raises:
          FitDiverged: if a logit is not finite.
        """
        encoder = self.encoder
        try:
            return extract_features(
                partial(_scores, encoder.module, encoder.config.augment, tuned),
                source,
                np.arange(len(source)),
                whole_multiple(SCORING_BATCH, self.mesh.shape["data"]),
                sharding=batch_sharding(self.mesh),
            )
        except NotFinite as error:
            raise diverged("the fit of a whole network") from error

    def describe(self, source: Source, trial: Trial) -> dict[str, Any]:
        """Describe a fit by the settings that distinguish it from others."""
        return trial._asdict() | {"images": len(source)}


def rate_schedule(
    trial: Trial, num_examples: int, batch_size: int, total: int
) -> optax.Schedule:
    """Rise linearly from 0 in the warm-up, then follow a cosine to 0 at `total`."""
    warmup = whole_steps(trial.warmup_epochs, num_examples, batch_size)
    warmup = min(warmup, total - 1)
    peak = trial.rate * batch_size / 256
    start = 0.0 if warmup else peak
    return optax.warmup_cosine_decay_schedule(start, peak, warmup, total)


def _head(params: Any, features: Float[Array, "b d"]) -> Float[Array, "b k"]:
    return features @ params["head"]["kernel"] + params["head"]["bias"][None, :]


@partial(jax.jit, static_argnums=(0, 1))
def _scores(module, augment, tuned: Tuned, images):
    variables = variables_of(tuned.params["encoder"], tuned.stats)
    features = represent(module, variables, images, augment)
    return _head(tuned.params, features)


@partial(
    jax.jit, static_argnames=("module", "augment", "seed"), donate_argnames="state"
)
def _step(state: Tuned, batch, index, now: Now, *, module, augment, seed):
    """Take one step of SGD; also return the loss before it."""
    images = augmented_view(batch, index, augment, seed)

    def loss(params):
        variables = variables_of(params["encoder"], state.stats)
        features, updated = module.apply(
            variables, images, True, mutable=["batch_stats"]
        )
        losses = _losses(_head(params, features), batch["label"], now.label_smoothing)
        return losses.mean(), updated.get("batch_stats", {})

    (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
    update, momentum = momentum_update(
        gradient, state.params, state.momentum, now.weight_decay, nesterov=True
    )
    params = jax.tree.map(lambda p, u: p - now.rate * u, state.params, update)
    stats = with_decay(state.stats, stats, now.bn_decay)
    return Tuned(params, stats, momentum), value


def _losses(
    scores: Float[Array, "b k"],
    labels: Int[Array, "b ..."],
    smoothing: Float[Array, ""] | float,
) -> Float[Array, " b"]:
    """Return softmax losses for single labels, or summed sigmoid losses for several.

    Several labels [b k] are 1 (present), -1 (absent) or 0 (ignored): see `multilabel`.
    """
    if labels.ndim == 2:
        return jnp.sum(jnp.abs(labels) * jax.nn.softplus(-labels * scores), axis=1)
    targets = jax.nn.one_hot(labels, scores.shape[1])
    return optax.softmax_cross_entropy(scores, optax.smooth_labels(targets, smoothing))
