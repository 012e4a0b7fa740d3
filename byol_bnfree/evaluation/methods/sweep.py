"""Compares several settings of a fine-tuning on held-out images."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from byol_bnfree.data.sources import Source
from byol_bnfree.evaluation.diverged import FitDiverged, best_of, in_words
from byol_bnfree.evaluation.methods.finetune import Trial, Tuned, Tuner
from byol_bnfree.evaluation.methods.metrics import METRICS, Metric
from byol_bnfree.training.distributed import say


class Swept(NamedTuple):
    """The best trial of a sweep, and the results of all trials."""

    best: Trial
    tuned: Tuned | None
    """The best trial's network; None if an interrupted evaluation trained it."""
    chosen: dict[str, Any]
    points: list[dict[str, Any]]


def sweep(
    tuner: Tuner,
    source: Source,
    valid: Source,
    trials: Sequence[Trial],
    metric: Metric = "top1",
) -> Swept:
    """Find the trial with the best result on `valid`; ties go to the first.

    All trials share one compiled step. Finished trials are stored, so an interrupted
    sweep does not repeat them. The result of a trial that diverged is None.

    Raises:
      FitDiverged: if all trials diverge.
    """
    tuned, points, key = None, [], f"validation_{metric}"
    for number, trial in enumerate(trials, 1):
        point, network = _measured(tuner, source, valid, trial, metric)
        points.append(point)
        figures = [point[key] for point in points]
        if point[key] is not None and best_of(figures) == len(points) - 1:
            tuned = network
        say(f"{number} of {len(trials)} done: {_words(point)}")
    best = best_of([point[key] for point in points])
    chosen = {name: value for name, value in points[best].items() if name != "seconds"}
    return Swept(trials[best], tuned, chosen, points)


def _measured(
    tuner: Tuner, source: Source, valid: Source, trial: Trial, metric: Metric
) -> tuple[dict[str, Any], Tuned | None]:
    """Return the results of a trial, and its network if it was trained now."""
    fit, network, key = tuner.describe(source, trial), None, f"validation_{metric}"
    found = tuner.unfinished.find(fit)
    if found is None:
        began = time.perf_counter()
        figure, network = _fitted(tuner, source, valid, trial, metric)
        seconds = round(time.perf_counter() - began, 2)
        found = {key: figure, "seconds": seconds}
        tuner.unfinished.add(fit, **found)
    swept = {name: getattr(trial, name) for name in ("rate", "epochs", "weight_decay")}
    return swept | {n: found[n] for n in (key, "seconds")}, network


def _fitted(
    tuner: Tuner, source: Source, valid: Source, trial: Trial, metric: Metric
) -> tuple[float | None, Tuned | None]:
    """Return the figure of a trial and its network, or None if it diverges."""
    try:
        network = tuner.fit(source, trial)
        scores = tuner.scores(network, valid)
    except FitDiverged:
        return None, None
    return METRICS[metric](scores, valid.labels()), network


def _words(point: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {in_words(value, '.4g')}" for name, value in point.items()
    )
