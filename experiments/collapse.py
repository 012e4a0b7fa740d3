"""The outcome of a run, and which signal showed a collapse first: measures or probe."""

from typing import Literal

from experiments.results import Row

Outcome = Literal["learned", "did not learn", "collapsed", "diverged"]
LEARNED = 0.02
"""Gain in linear accuracy over the untrained encoder. It is four standard errors of an
accuracy on 10,000 test images."""
RISEN = 0.03
"""Gain in the probe's accuracy. A smaller gain is no signal that could be lost."""


def outcome(row: Row) -> Outcome:
    """Return a run's outcome. It is collapsed if the final measures say so."""
    summary = row["summary"]
    if summary is None:
        return "collapsed" if row.get("collapsed") else "diverged"
    if summary["collapse"]["verdict"] == "collapsed":
        return "collapsed"
    linear = summary["linear"]
    if linear["trained"] is None:  # there was no evaluation
        return "learned"
    gain = linear["trained"] - linear["untrained"]
    return "learned" if gain >= LEARNED else "did not learn"


def warnings(row: Row) -> dict[str, int | None]:
    """Return the first steps at which the measures had drifted and had collapsed."""
    collapse = (row["summary"] or {}).get("collapse", {})
    return {k: collapse.get(f"first_{k}") for k in ("drifting", "collapsed")}


def probe_says(row: Row) -> str:
    """Say when the probe lost half of its gain for good."""
    steps, values = row["curves"].get("probe/top1", [[], []])
    known = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
    if not known:
        return "there was none"
    first, best = known[0][1], max(v for _, v in known)
    if best - first < RISEN:
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
