"""Protocols that train the whole network: with few labels, all labels, from scratch.

P1 is the BYOL paper (arXiv 2006.07733).
"""

from collections.abc import Callable

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from byol_bnfree.data.sources import Source
from byol_bnfree.encoder import Encoder
from byol_bnfree.evaluation.config import check_settings
from byol_bnfree.evaluation.fine_tuned import start_of
from byol_bnfree.evaluation.images.subset import Subset, class_balanced, rows_held_out
from byol_bnfree.evaluation.kept.unfinished import NOTHING, Unfinished
from byol_bnfree.evaluation.methods.finetune import Trial, Tuner
from byol_bnfree.evaluation.methods.metrics import Metric
from byol_bnfree.evaluation.methods.sweep import sweep
from byol_bnfree.evaluation.outcome import Outcome, top_figures
from byol_bnfree.evaluation.settings import (
    FinetuneSettings,
    SemiSettings,
    SupervisedSettings,
)
from byol_bnfree.models.batch_norm import BN_DECAY
from byol_bnfree.training.mesh import make_mesh

SEMI, FINETUNE, SUPERVISED = SemiSettings(), FinetuneSettings(), SupervisedSettings()


def semi_supervised_evaluation(
    encoder: Encoder,
    train: Source,
    test: Source,
    share: float,
    *,
    settings: SemiSettings = SEMI,
    seed: int = 0,
    mesh: Mesh | None = None,
    unfinished: Unfinished = NOTHING,
) -> Outcome:
    """Fine-tune with a share of the labels of every class (P1 appendix C.1).

    A held-out tenth chooses rate and epochs. It keeps its labels for this, as P1's
    10,009 images do. The chosen network is evaluated as it is.

    Raises:
      InputError: if a setting is impossible, or a class has too few images.
    """
    check_settings("semi.", settings)
    start = start_of(encoder, settings.kernel_lengths)
    tuner = Tuner(start, settings.batch_size, seed, mesh or make_mesh(), unfinished)
    source = Subset(train, labelled_subset(train, share, seed))
    _, held_out = rows_held_out(len(train), seed)
    valid = Subset(train, held_out)
    found = sweep(tuner, source, valid, semi_trials(settings))
    tuned = found.tuned or tuner.fit(source, found.best)
    figures = top_figures(tuner.scores(tuned, test), test.labels())
    return Outcome(figures, found.chosen, found.points, tuned.fitted())


def labelled_subset(train: Source, share: float, seed: int) -> Int[np.ndarray, " m"]:
    """Return the images that keep their labels: equally many per class, none held out.

    Raises:
      InputError: if a class has fewer images.
    """
    labels = train.labels()
    kept, _ = rows_held_out(len(labels), seed)
    count = max(1, round(share * len(labels) / train.num_classes))
    return kept[class_balanced(labels[kept], count, train.class_names, seed)]


def finetune_evaluation(
    encoder: Encoder,
    train: Source,
    test: Source,
    settings: FinetuneSettings = FINETUNE,
    *,
    seed: int = 0,
    mesh: Mesh | None = None,
    unfinished: Unfinished = NOTHING,
    metric: Metric = "top1",
    figures: Callable[..., dict[str, float]] = top_figures,
) -> Outcome:
    """Fine-tune with all labels: choose rate and decay in a sweep, then use all images.

    See P1 appendix D.3. `metric` chooses on held-out images. `figures(scores, labels)`
    returns the results on the test images. Sources with several labels per image
    (`multilabel`) train a sigmoid per class.

    Raises:
      InputError: if a setting is impossible.
    """
    check_settings("finetune.", settings)
    size = settings.batch_size
    start = start_of(encoder, settings.kernel_lengths)
    tuner = Tuner(start, size, seed, mesh or make_mesh(), unfinished)
    source, valid = (Subset(train, rows) for rows in rows_held_out(len(train), seed))
    trials = finetune_trials(settings, len(source))
    found = sweep(tuner, source, valid, trials, metric)
    # The final fit has as many steps, but on all images.
    final = found.best._replace(epochs=settings.steps * size / len(train))
    tuned = tuner.fit(train, final)
    measured = figures(tuner.scores(tuned, test), test.labels())
    return Outcome(measured, found.chosen, found.points, tuned.fitted())


def supervised_evaluation(
    encoder: Encoder,
    train: Source,
    test: Source,
    settings: SupervisedSettings = SUPERVISED,
    *,
    seed: int = 0,
    mesh: Mesh | None = None,
    unfinished: Unfinished = NOTHING,
) -> Outcome:
    """Train with all labels from an untrained `encoder`, as in the supervised rows.

    Raises:
      InputError: if a setting is impossible.
    """
    check_settings("supervised.", settings)
    trial = Trial(
        settings.rate,
        settings.epochs,
        settings.weight_decay,
        settings.warmup_epochs,
        settings.label_smoothing,
    )
    size = settings.batch_size
    tuner = Tuner(encoder, size, seed, mesh or make_mesh(), unfinished)
    tuned = tuner.fit(train, trial)
    figures = top_figures(tuner.scores(tuned, test), test.labels())
    return Outcome(figures, {}, fitted=tuned.fitted())


def semi_trials(settings: SemiSettings) -> list[Trial]:
    """Combine every rate with every number of epochs."""
    return [Trial(rate, e) for rate in settings.rates for e in settings.epochs]


def finetune_trials(settings: FinetuneSettings, num_examples: int) -> list[Trial]:
    """Combine every rate with every weight decay, which P1 divides by the rate.

    BatchNorm's statistics decay by max(1 - 10 / steps per epoch, 0.9), as in P1.
    """
    epochs = settings.steps * settings.batch_size / num_examples
    steps_per_epoch = num_examples / settings.batch_size
    bn_decay = max(1 - 10 / steps_per_epoch, BN_DECAY)
    return [
        Trial(rate, epochs, decay / rate, bn_decay=bn_decay)
        for rate in settings.rates
        for decay in settings.weight_decays
    ]
