"""The meaning of the measures of collapse: a verdict on one row, and on a run.

Seen in short CIFAR-10 runs of ResNets of three blocks with simplified views (batch
128, 160-240 steps; kNN from 5,000 images, so it is low):

| measure         | untrained | bn, trained | gn_ws, first and last | none, collapsed |
|-----------------|-----------|-------------|-----------------------|-----------------|
| feature_std     | 0.2 - 0.5 | 0.6         | 0.04, 0.13            | 0.003           |
| positive_cosine | 0.2 - 0.9 | 0.5         | 0.9996, 0.98          | 1               |
| negative_cosine | 0.1 - 0.9 | 0.3         | 0.9994, 0.94          | 1               |
| centered_rank   | 30 - 50   | 32          | 12, 8                 | 8               |
| BYOL loss       | 4         | 1.5         | 0.14, 0.05            | 1e-5            |
| kNN, %          | 21 - 28   | 30          | 24                    | 18              |

A low loss is therefore no collapse. Networks without batch statistics first shrink
towards the mean feature of all images: nearly all of the cosines and of the effective
rank belongs to that mean, yet the variation around it tells images apart as well as
before, and it grows again. Collapsed means that what is left is close to rounding, or
lies along one direction; drifting, that it is on its way there. A probe's accuracy is
a late alarm: in imbue's runs (https://github.com/imbue-ai/self_supervised/issues/5) it
stayed until the cosines reached 0.99999, with 0.88 (positive) and 0.27 (negative) in
healthy ones.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

State = Literal["healthy", "drifting", "collapsed"]
Measures = Mapping[str, float | None]

COLLAPSED = {
    "feature_std": 5e-3,  # bfloat16 rounding alone makes 1e-3
    "1 - negative_cosine": 1e-5,  # where the probes of imbue's study failed
    "centered_rank": 2.0,  # one direction becomes an arc in a plane on the sphere
}
DRIFTING = {
    "feature_std": 0.05,
    "1 - negative_cosine": 1e-4,
    "centered_rank": 3.0,
}
# These shares of the untrained network's values replace the limits, where known.
DRIFTING_SHARES = {"feature_std": 1 / 3, "1 - negative_cosine": 1 / 50}
_SAYS = {
    "feature_std": "representations of different images are nearly equal",
    "1 - negative_cosine": "projections of different images are nearly equal",
    "centered_rank": "representations vary along hardly more than one direction",
}


@dataclass(frozen=True)
class CollapseVerdict:
    """A state, and one sentence with the measures that led to it."""

    state: State
    reason: str


def judge(measures: Measures, untrained: Measures | None = None) -> CollapseVerdict:
    """The verdict on one row of measures, by the limits at the top of this file.

    Args:
      measures: `feature_std`, `negative_cosine` and `centered_rank`, of `collapse.py`.
        A missing, None or NaN value says nothing.
      untrained: the same before training: how much spread there was to lose.
    """
    values = _watched(measures)
    start = _watched(untrained or {})
    drifting = DRIFTING | {
        name: share * start[name]
        for name, share in DRIFTING_SHARES.items()
        if name in start
    }
    limits: tuple[tuple[State, dict[str, float]], ...] = (
        ("collapsed", COLLAPSED),
        ("drifting", drifting),
    )
    for state, limit in limits:
        for name, value in values.items():
            if value < limit[name]:
                reason = f"{name} {value:.3g} is below {limit[name]:.3g}: {_SAYS[name]}"
                return CollapseVerdict(state, reason)
    known = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
    return CollapseVerdict("healthy", f"no sign of collapse in {known or 'no measure'}")


def _watched(measures: Measures) -> dict[str, float]:
    """The finite ones of the three values that have limits."""
    cosine = measures.get("negative_cosine")
    values = {
        "feature_std": measures.get("feature_std"),
        "1 - negative_cosine": None if cosine is None else 1 - cosine,
        "centered_rank": measures.get("centered_rank"),
    }
    return {
        name: float(value)
        for name, value in values.items()
        if value is not None and math.isfinite(value)
    }


class Streak(NamedTuple):
    """Consecutive rows, up to the newest, of which something holds."""

    rows: int = 0
    since: int | None = None
    """Step of the first of them."""


class CollapseWatch(NamedTuple):
    """The verdict over a run; feed it every logged row with `update_watch`.

    Folded over the rows of a log it gives the state at the end of that log, which is
    how a resumed run goes on.
    """

    untrained: Measures | None = None
    """Measures before training, if known."""
    verdict: CollapseVerdict = CollapseVerdict("healthy", "nothing is measured yet")
    """The verdict on the run so far."""
    drifting: Streak = Streak()
    """Rows that are drifting or collapsed."""
    collapsed: Streak = Streak()
    """Rows past warm-up that are collapsed."""
    first_drifting: int | None = None
    """Step from which the run first drifted; it stays when the run recovers."""
    first_collapsed: int | None = None
    """Step from which the run was first collapsed; it stays too."""


def update_watch(
    watch: CollapseWatch,
    step: int,
    measures: Measures,
    *,
    warmup_steps: int = 0,
    patience: int = 5,
) -> CollapseWatch:
    """Add one logged row. A verdict other than healthy takes `patience` rows in a row.

    Rows before `warmup_steps` can make it drifting at most: networks without batch
    statistics shrink in the first steps and recover. A healthy row ends both.
    """
    now = judge(measures, watch.untrained)
    drifting = _extend(watch.drifting, step, now.state != "healthy")
    collapses = now.state == "collapsed" and step >= warmup_steps
    collapsed = _extend(watch.collapsed, step, collapses)
    is_drifting, is_collapsed = drifting.rows >= patience, collapsed.rows >= patience
    state: State = "drifting" if is_drifting else "healthy"
    if is_collapsed:
        state = "collapsed"
    reason = now.reason
    if state != now.state:
        reason += f" ({drifting.rows} rows so far)"
    return watch._replace(
        verdict=CollapseVerdict(state, reason),
        drifting=drifting,
        collapsed=collapsed,
        first_drifting=_first(watch.first_drifting, drifting, is_drifting),
        first_collapsed=_first(watch.first_collapsed, collapsed, is_collapsed),
    )


def _extend(streak: Streak, step: int, holds: bool) -> Streak:
    if not holds:
        return Streak()
    return Streak(streak.rows + 1, step if streak.since is None else streak.since)


def _first(known: int | None, streak: Streak, confirmed: bool) -> int | None:
    return streak.since if known is None and confirmed else known
