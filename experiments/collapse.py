"""The outcome of a run, and which signal showed a collapse first: measures or probe."""

import re
from collections.abc import Iterator
from typing import Literal

from byol_bnfree.diagnostics.verdict import (
    CollapseWatch,
    Measures,
    judge,
    update_watch,
)
from experiments.results import Row

Outcome = Literal["learned", "did not learn", "collapsed", "diverged"]
LEARNED = 0.02
"""Gain in linear accuracy over the untrained encoder. It is four standard errors of an
accuracy on 10,000 test images."""
RISEN = 0.03
"""Gain in the probe's accuracy. A smaller gain is no signal that could be lost."""


def outcome(row: Row) -> Outcome:
    """Return a run's outcome. It is collapsed if the final measures say so.

    Papers judge the representation. So where only the projections collapsed, the
    accuracy decides, if there is one.
    """
    summary = row["summary"]
    if summary is None:
        return "collapsed" if row.get("collapsed") else "diverged"
    linear = summary["linear"]
    measured = linear["trained"] is not None
    learned = measured and gain(linear["untrained"], linear["trained"]) >= LEARNED
    if summary["collapse"]["verdict"] == "collapsed":
        return "learned" if learned and _ended_in_projections(row) else "collapsed"
    return "learned" if learned or not measured else "did not learn"


def aside(row: Row) -> str:
    """Return what to say beside "learned": the verdicts of the run on its measures."""
    collapse = (row["summary"] or {}).get("collapse", {})
    if collapse.get("verdict") == "drifting":
        return "drifting"
    recovered = collapse.get("verdict") == "healthy"
    return "collapsed at first" if recovered and collapse["first_collapsed"] else ""


def gain(before: float, after: float) -> float:
    """Return the gain in accuracy, without the rounding of floats: 0.42 - 0.4 is less
    than 0.02.
    """
    return round(after - before, 9)


def warnings(row: Row) -> dict[str, int | None]:
    """Return the first steps at which the measures had drifted and had collapsed.

    A run that broke off has no summary. Its curves are watched again; as they are
    thinned and rounded, the step of drifting is that of a point of the curve.
    """
    if row["summary"] is not None:
        collapse = row["summary"].get("collapse", {})
        return {k: collapse.get(f"first_{k}") for k in ("drifting", "collapsed")}
    watch, stopped = _watch(row), _stopped_at(row)
    drifting, collapsed = watch.first_drifting, watch.first_collapsed
    if stopped is not None:  # the run confirmed it on more rows than the curve has
        steps = (drifting, watch.drifting.since, stopped)
        drifting = min(step for step in steps if step is not None)
        collapsed = stopped
    return {"drifting": drifting, "collapsed": collapsed}


def _watch(row: Row) -> CollapseWatch:
    """Watch the curves of a run."""
    points = list(_measures(row))
    if not points:
        return CollapseWatch()
    steps, epochs = row["curves"]["epoch"]
    warmup = round(row["config"]["optim"]["warmup_epochs"] * steps[-1] / epochs[-1])
    first_step, untrained = points[0]
    watch = CollapseWatch(untrained=untrained if first_step == 1 else None)
    for step, measures in points:
        watch = update_watch(watch, step, measures, warmup_steps=warmup)
    return watch


def _measures(row: Row) -> Iterator[tuple[int, Measures]]:
    """Yield each step of the curves with its measures."""
    names = ("feature_std", "negative_cosine", "centered_rank")
    curves = {name: row["curves"].get(f"collapse/{name}") for name in names}
    known = {k: dict(zip(*curve, strict=True)) for k, curve in curves.items() if curve}
    for step in sorted(set().union(*known.values())):
        yield step, {name: values.get(step) for name, values in known.items()}


def only_projections(row: Row) -> bool:
    """Say if a run was stopped because its projections had collapsed, and they alone.

    It has no accuracy. Its representation still told images apart, so it may have
    learned.
    """
    stopped = _stopped_at(row)
    if stopped is None or "1 - negative_cosine" not in row["collapsed"]:
        return False
    return all(
        judge(_of_representations(measures)).state != "collapsed"
        for step, measures in _measures(row)
        if step >= stopped
    )


def _ended_in_projections(row: Row) -> bool:
    """Say if only the projections of a finished run, which collapsed, had collapsed."""
    if "1 - negative_cosine" not in row["summary"]["collapse"].get("reason", ""):
        return False
    *_, (_, last) = _measures(row)
    return judge(_of_representations(last)).state != "collapsed"


def _of_representations(measures: Measures) -> Measures:
    return {name: v for name, v in measures.items() if name != "negative_cosine"}


def last_knn(row: Row) -> tuple[int, float] | None:
    """Return step and value of the last kNN of a run that was stopped as collapsed.

    The value is a fraction. None for other runs, and if the run logged none.
    """
    if _stopped_at(row) is None:
        return None
    curve = row["curves"].get("knn/top1") or ([], [])
    known = [(s, v) for s, v in zip(*curve, strict=True) if v is not None]
    return known[-1] if known else None


def _stopped_at(row: Row) -> int | None:
    """Return the step of the collapse for which --on-collapse=stop ended the run."""
    found = re.search(r"collapsed at step (\d+)", row.get("collapsed") or "")
    return int(found[1]) if found else None


def probe_says(row: Row) -> str:
    """Say when the probe lost half of its gain for good."""
    steps, values = row["curves"].get("probe/top1", [[], []])
    known = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
    if not known:
        return "there was none"
    first, best = known[0][1], max(v for _, v in known)
    if gain(first, best) < RISEN:
        return "never rose, so it could not fall"
    fallen = None
    for step, value in known:
        if value >= first + (best - first) / 2:
            fallen = None
        elif value < best and fallen is None and step > _step_of(known, best):
            fallen = step
    return "never fell" if fallen is None else f"fell at step {fallen}"


def _step_of(known: list[tuple[int, float]], value: float) -> int:
    return next(step for step, v in known if v == value)
