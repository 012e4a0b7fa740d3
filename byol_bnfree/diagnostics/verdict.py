"""Interprets the collapse measures: a verdict on one row, and on a run.

These values come from short CIFAR-10 runs with LARS, before there was Muon: ResNets
with three blocks and simplified views (batch 128, 160-240 steps; kNN uses 5,000 images,
so it is low). docs/what_to_expect.md has those of today's recipes.

| measure         | untrained | bn, trained | gn_ws, first and last | none, collapsed |
|-----------------|-----------|-------------|-----------------------|-----------------|
| feature_std     | 0.2 - 0.5 | 0.6         | 0.04, 0.13            | 0.003           |
| positive_cosine | 0.2 - 0.9 | 0.5         | 0.9996, 0.98          | 1               |
| negative_cosine | 0.1 - 0.9 | 0.3         | 0.9994, 0.94          | 1               |
| centered_rank   | 30 - 50   | 32          | 12, 8                 | 8               |
| BYOL loss       | 4         | 1.5         | 0.14, 0.05            | 1e-5            |
| kNN, %          | 21 - 28   | 30          | 24                    | 18              |

A low loss is therefore no sign of collapse. Without batch statistics, representations
first shrink towards the mean feature of all images. This mean then dominates the
cosines and the effective rank. The variation around it still distinguishes images as
well as before, and it grows again.

"Collapsed" means that the remaining variation is close to rounding, or lies along one
direction. "Drifting" means that the run approaches this. A probe's accuracy reacts
late: in imbue's runs (https://github.com/imbue-ai/self_supervised/issues/5) it fell
only when the cosines reached 0.99999. Healthy runs had 0.88 (positive) and 0.27
(negative).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

State = Literal["healthy", "drifting", "collapsed"]
Measures = Mapping[str, float | None]

COLLAPSED = {
    "feature_std": 5e-3,  # rounding to bfloat16 alone gives 1e-3
    "1 - negative_cosine": 1e-5,  # here the probes in imbue's runs failed
    "centered_rank": 2.0,  # one direction is an arc on the sphere, thus two dimensions
}
DRIFTING = {
    "feature_std": 0.05,
    "1 - negative_cosine": 1e-4,
    "centered_rank": 3.0,
}
# If the untrained network's values are known, these shares of them are the limits.
DRIFTING_SHARES = {"feature_std": 1 / 3, "1 - negative_cosine": 1 / 50}
_SAYS = {
    "feature_std": "representations of different images are nearly equal",
    "1 - negative_cosine": "projections of different images are nearly equal",
    "centered_rank": "representations vary along hardly more than one direction",
}


@dataclass(frozen=True)
class CollapseVerdict:
    """A state, and a sentence with the measures that led to it."""

    state: State
    reason: str


def judge(measures: Measures, untrained: Measures | None = None) -> CollapseVerdict:
    """Judge one row of measures by the limits above.

    Args:
      measures: `feature_std`, `negative_cosine` and `centered_rank` of `collapse.py`.
        Missing, None and NaN values are ignored.
      untrained: the same measures before training.
    """
    values = _watched(measures)
    start = _watched(untrained or {})
    drifting = DRIFTING | {
        name: share * start[name]
        for name, share in DRIFTING_SHARES.items()
        if name in start
    }
    # The worse state comes first, because collapsed rows are drifting too.
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
    """Return those of the three limited values that are finite."""
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
    """Consecutive rows, up to the newest, that share a property."""

    rows: int = 0
    since: int | None = None
    """Step of the first row."""


class CollapseWatch(NamedTuple):
    """The verdict on a run. `update_watch` adds every logged row.

    A resumed run adds all rows of its log again and so restores its watch.
    """

    untrained: Measures | None = None
    """Measures before training, if known."""
    verdict: CollapseVerdict = CollapseVerdict("healthy", "nothing is measured yet")
    """Verdict on the run so far."""
    drifting: Streak = Streak()
    """Rows that are drifting or collapsed."""
    collapsed: Streak = Streak()
    """Rows after the warm-up that are collapsed."""
    first_drifting: int | None = None
    """Step from which the run first drifted. It stays if the run recovers."""
    first_collapsed: int | None = None
    """Step from which the run was first collapsed. It stays if the run recovers."""


def update_watch(
    watch: CollapseWatch,
    step: int,
    measures: Measures,
    *,
    warmup_steps: int = 0,
    patience: int = 5,
) -> CollapseWatch:
    """Add one logged row. Other verdicts than healthy need `patience` such rows in a
    row.

    Before `warmup_steps` the verdict is drifting at most: networks without batch
    statistics shrink in the first steps and recover. One healthy row resets both
    streaks.
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
    # A single bad row is no verdict yet, but it is worth saying.
    streak = collapsed if now.state == "collapsed" else drifting
    if state != now.state and streak.rows:
        reason += f" ({streak.rows} row{'s' * (streak.rows != 1)} so far)"
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
