"""A dense task from an encoder to figures: choose the rate, fit, test."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from byol_bnfree.data.dense.view import DenseView
from byol_bnfree.encoder import Encoder
from byol_bnfree.evaluation.config import check_settings
from byol_bnfree.evaluation.dense.known import check_known
from byol_bnfree.evaluation.dense.settings import DenseSettings
from byol_bnfree.evaluation.dense.task import Figures, Score, Task
from byol_bnfree.evaluation.dense.training import FitState, Fitter
from byol_bnfree.evaluation.diverged import (
    FitDiverged,
    best_of,
    diverged,
    in_words,
)
from byol_bnfree.evaluation.fine_tuned import start_of
from byol_bnfree.evaluation.images.subset import rows_held_out
from byol_bnfree.evaluation.kept.unfinished import NOTHING, Unfinished
from byol_bnfree.evaluation.outcome import Outcome
from byol_bnfree.training.mesh import make_mesh

POINTS, LOSSES = 5, 200  # of the curves of figures and of the loss
WATCHED = 64  # test pictures of the curve that is drawn during training


class DenseResult(NamedTuple):
    """The outcome of a task, and what its pictures show."""

    outcome: Outcome
    score: Score
    curve: list[dict[str, Any]]
    """Steps and figures on the first test pictures, during the last fit."""
    losses: list[tuple[int, float]]
    """Steps and losses of the last fit."""
    fitted: FitState


def dense_evaluation(
    task: Task,
    encoder: Encoder,
    train: DenseView,
    test: DenseView,
    settings: DenseSettings,
    *,
    seed: int = 0,
    mesh: Mesh | None = None,
    unfinished: Unfinished = NOTHING,
    say: Callable[[str], None] = print,
) -> DenseResult:
    """Fit a task on all training pictures and report its figures on the test split.

    If there are several rates, a held-out tenth of the training pictures chooses one
    first.

    Args:
      task: one of `tasks.TASKS`.
      encoder: the network; it is copied, and stays as it is.
      train: pictures with the target of the task.
      test: pictures to report on, seen through their central windows.
      settings: of the task.
      seed: draws held-out pictures, batches, windows and the head.
      mesh: devices; None takes all.
      unfinished: stores the state of fits, so that they can resume.
      say: prints progress between fits.

    Raises:
      InputError: if a setting is impossible, the encoder is no network of ours, an
        example cannot be used, or no central window of the test pictures or of the
        held-out ones knows the target.
      FitDiverged: if the last fit diverges, or all fits that choose its rate do.
    """
    check_settings(f"{task.name}.", settings)
    mesh = mesh or make_mesh()
    start = start_of(encoder, settings.kernel_lengths)
    fitter = task.fitter(
        start, train, settings, seed=seed, mesh=mesh, unfinished=unfinished
    )
    check_known(task.target, test, f"{test.split} pictures")
    if note := task.note(fitter, train):
        say(note)
    best, sweep = _choose(task, fitter, train, say)
    course = _Course(task, fitter, test.subset(np.arange(min(WATCHED, len(test)))), say)
    try:
        fitted = fitter.fit(train, best["rate"], course.watch)
        say(f"testing on {len(test):,} pictures ...")
        score = task.score(fitter, fitted, test)
    except FitDiverged as error:
        raise diverged(f"the {task.name} fit at the rate {best['rate']:g}") from error
    outcome = Outcome(score.figures, best, sweep)
    losses = [(step, float(loss)) for step, loss in course.losses]
    return DenseResult(outcome, score, course.curve, losses, fitted)


class _Course:
    """Follows a fit: its losses, and figures on some test pictures."""

    def __init__(
        self, task: Task, fitter: Fitter, some: DenseView, say: Callable[[str], None]
    ):
        self.curve: list[dict[str, Any]] = []
        self.losses: list[tuple[int, Array]] = []
        self._task, self._fitter, self._some, self._say = task, fitter, some, say
        self._total = fitter.settings.steps
        self._marks = {round(self._total * k / POINTS) for k in range(1, POINTS + 1)}

    def watch(self, step: int, fitted: FitState, loss: Array) -> None:
        """Note what is due after a step."""
        if step % max(1, self._total // LOSSES) == 0:
            self.losses.append((step, loss))  # an array: a number would wait for it
        if step in self._marks:
            figures = self._task.score(self._fitter, fitted, self._some).figures
            self.curve.append({"step": step} | figures)
            of = f"{len(self._some)} test pictures"
            self._say(f"step {step}/{self._total}, {of}: {words(figures)}")


def _choose(
    task: Task, fitter: Fitter, train: DenseView, say: Callable[[str], None]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the best rate on held-out pictures with its figure, and all rates.

    The figure of a fit that diverged is None.
    """
    settings, key = fitter.settings, f"validation_{task.best}"
    rates = list(settings.rates)
    if len(rates) == 1:
        return {"rate": rates[0]}, []
    # The test pictures choose nothing.
    source, valid = map(train.subset, rows_held_out(len(train), fitter.seed))
    check_known(task.target, valid, f"held-out {train.split} pictures")
    points: list[dict[str, Any]] = []
    most = len(rates) + settings.further_rates
    while True:
        rate = rates[len(points)]
        found = fitter.unfinished.find({"rate": rate})
        if found is None:
            found = {"figure": _trial(task, fitter, (source, valid), rate)}
            fitter.unfinished.add({"rate": rate}, **found)
        points.append({"rate": rate, key: found["figure"]})
        figure = in_words(found["figure"])
        say(f"{len(points)} of {len(rates)} rates: {rate:g}, {key} {figure}")
        if len(points) < len(rates):
            continue
        figures = [point[key] for point in points]
        best = points[best_of(figures, least=task.less_is_better)]
        further = rate_beyond(rates, best["rate"])
        if further is None or len(rates) == most:
            return best, points
        rates.append(further)


def rate_beyond(rates: Sequence[float], best: float) -> float | None:
    """Return the next rate beyond the end of a range at which the best one is.

    It has the ratio of the two rates at that end. None if the best rate is at no end,
    or all rates are equal.
    """
    ordered = sorted({*rates}, reverse=best == min(rates))
    if len(ordered) == 1 or best != ordered[-1]:
        return None
    return best * best / ordered[-2]


def _trial(
    task: Task, fitter: Fitter, views: tuple[DenseView, DenseView], rate: float
) -> float | None:
    """Fit on the first view; return the figure on the second, None if it diverges."""
    try:
        fitted = fitter.fit(views[0], rate, steps=fitter.settings.trial_steps)
        return task.score(fitter, fitted, views[1]).figures[task.best]
    except FitDiverged:
        return None


def words(figures: Figures) -> str:
    """Format figures as one line."""
    return ", ".join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{value:,} {name}"
        for name, value in figures.items()
    )
