"""Protocols that train the whole network: few labels, all labels, from scratch."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from byol_bnfree.data.sources import Source
from byol_bnfree.evaluation.config import (
    FinetuneSettings,
    SemiSettings,
    SupervisedSettings,
)
from byol_bnfree.evaluation.finetune import Trial, Tuned, Tuner
from byol_bnfree.evaluation.metrics import top_k_accuracy
from byol_bnfree.evaluation.outcome import Outcome, top_figures
from byol_bnfree.evaluation.subset import Subset, class_balanced, hold_out
from byol_bnfree.evaluation.unfinished import Unfinished
from byol_bnfree.pretrained import Encoder
from byol_bnfree.training.mesh import make_mesh

SEMI, FINETUNE, SUPERVISED = SemiSettings(), FinetuneSettings(), SupervisedSettings()
NOTHING = Unfinished()


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
    """Fine-tuned on a share of the labels in every class (P1 appendix C.1).

    Rate and epochs are chosen on a held-out tenth, which keeps its labels for that (as
    P1's 10,009 images do); the chosen network is reported as it is.
    """
    tuner = Tuner(encoder, settings.batch_size, seed, mesh or make_mesh(), unfinished)
    source = Subset(train, labelled_subset(train, share, seed))
    valid = Subset(train, np.flatnonzero(hold_out(len(train), seed)))
    found = sweep(tuner, source, valid, semi_trials(settings))
    tuned = found.tuned or tuner.fit(source, found.best)
    figures = top_figures(tuner.scores(tuned, test), test.labels())
    return Outcome(figures, found.chosen, found.points)


def labelled_subset(train: Source, share: float, seed: int) -> Int[np.ndarray, " m"]:
    """The images that keep their label: as many of every class, none held out.

    Raises: InputError for a class with fewer.
    """
    labels = train.labels()
    kept = np.flatnonzero(~hold_out(len(labels), seed))
    count = max(1, round(share * len(labels) / train.num_classes))
    return kept[class_balanced(labels[kept], count, train.class_names, seed)]


class Scored(NamedTuple):
    """Logits of the test images by the network of a sweep's best setting."""

    scores: Float[np.ndarray, "n k"]
    chosen: dict[str, Any]
    sweep: list[dict[str, Any]]


def finetuned_scores(
    encoder: Encoder,
    train: Source,
    test: Source,
    settings: FinetuneSettings = FINETUNE,
    *,
    seed: int = 0,
    mesh: Mesh | None = None,
    unfinished: Unfinished = NOTHING,
) -> Scored:
    """All labels: rate and decay from a sweep, then all images (P1 appendix D.3)."""
    size = settings.batch_size
    tuner = Tuner(encoder, size, seed, mesh or make_mesh(), unfinished)
    held_out = hold_out(len(train), seed)
    source, valid = (
        Subset(train, np.flatnonzero(rows)) for rows in (~held_out, held_out)
    )
    found = sweep(tuner, source, valid, finetune_trials(settings, len(source)))
    # As many steps, on all images.
    final = found.best._replace(epochs=settings.steps * size / len(train))
    scores = tuner.scores(tuner.fit(train, final), test)
    return Scored(scores, found.chosen, found.points)


def finetune_evaluation(
    encoder: Encoder,
    train: Source,
    test: Source,
    settings: FinetuneSettings = FINETUNE,
    *,
    seed: int = 0,
    mesh: Mesh | None = None,
    unfinished: Unfinished = NOTHING,
) -> Outcome:
    """Top-1 and top-5 of `finetuned_scores`."""
    found = finetuned_scores(
        encoder, train, test, settings, seed=seed, mesh=mesh, unfinished=unfinished
    )
    return Outcome(top_figures(found.scores, test.labels()), found.chosen, found.sweep)


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
    """All labels; `encoder` is an untrained one: the tables' supervised rows."""
    trial = Trial(
        settings.rate,
        settings.epochs,
        settings.weight_decay,
        settings.warmup_epochs,
        settings.label_smoothing,
    )
    size = settings.batch_size
    tuner = Tuner(encoder, size, seed, mesh or make_mesh(), unfinished)
    scores = tuner.scores(tuner.fit(train, trial), test)
    return Outcome(top_figures(scores, test.labels()), {})


def semi_trials(settings: SemiSettings) -> list[Trial]:
    """Every rate with every number of epochs."""
    return [Trial(rate, e) for rate in settings.rates for e in settings.epochs]


def finetune_trials(settings: FinetuneSettings, num_examples: int) -> list[Trial]:
    """Every rate with every decay, which P1 divides by the rate."""
    epochs = settings.steps * settings.batch_size / num_examples
    return [
        Trial(rate, epochs, decay / rate)
        for rate in settings.rates
        for decay in settings.weight_decays
    ]


class Swept(NamedTuple):
    """The best setting of a sweep, and all of them."""

    best: Trial
    tuned: Tuned | None
    """Its network; None if an interrupted evaluation trained it."""
    chosen: dict[str, Any]
    points: list[dict[str, Any]]


def sweep(
    tuner: Tuner,
    source: Source,
    valid: Source,
    trials: Sequence[Trial],
    say: Callable[[str], None] = print,
) -> Swept:
    """The trial with the best top-1 on held-out images, the first of equals.

    Finished trials are kept: an interrupted sweep does not repeat them.
    """
    best, tuned, points = 0, None, []
    for number, trial in enumerate(trials):
        described, network = tuner.describe(source, trial), None
        point = tuner.unfinished.find(described)
        if point is None:
            began = time.perf_counter()
            network = tuner.fit(source, trial)
            top1 = top_k_accuracy(tuner.scores(network, valid), valid.labels(), 1)
            seconds = round(time.perf_counter() - began, 2)
            point = {"validation_top1": top1, "seconds": seconds}
            tuner.unfinished.add(described, **point)
        points.append(
            {
                "rate": trial.rate,
                "epochs": trial.epochs,
                "weight_decay": trial.weight_decay,
                "validation_top1": point["validation_top1"],
                "seconds": point["seconds"],
            }
        )
        if number == 0 or point["validation_top1"] > points[best]["validation_top1"]:
            best, tuned = number, network
        say(f"sweep {number + 1}/{len(trials)}: {points[-1]}")
    return Swept(trials[best], tuned, points[best], points)
