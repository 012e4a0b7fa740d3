"""Means, deviations and paired differences of a few seeds."""

import math
import statistics
from collections.abc import Mapping
from typing import NamedTuple

from scipy.stats import t

CONFIDENCE = 0.95
MOST_SEEDS = 100
"""An upper limit for the number of seeds."""


class Spread(NamedTuple):
    """Mean and standard deviation of a figure over seeds."""

    mean: float
    std: float | None
    """Sample standard deviation (n - 1); None for one seed."""
    n: int


class Difference(NamedTuple):
    """Mean of a - b over the seeds that both arms have."""

    mean: float
    low: float | None
    """Lower end of the 95 % interval of the paired t test; None for one seed."""
    high: float | None
    n: int
    lost: int = 0
    """Runs of both arms that ended without an accuracy. The mean leaves them out, so it
    decides nothing."""


def spread(values: Mapping[int, float]) -> Spread | None:
    """Return mean and standard deviation over seeds; None without values."""
    numbers = list(values.values())
    if not numbers:
        return None
    std = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Spread(statistics.fmean(numbers), std, len(numbers))


def paired_difference(
    a: Mapping[int, float], b: Mapping[int, float]
) -> Difference | None:
    """Compare a and b seed by seed, so common effects do not widen the interval."""
    both = spread({seed: a[seed] - b[seed] for seed in a.keys() & b.keys()})
    if both is None:
        return None
    if both.std is None:
        return Difference(both.mean, None, None, 1)
    half = _quantile(both.n) * both.std / math.sqrt(both.n)
    return Difference(both.mean, both.mean - half, both.mean + half, both.n)


def verdict(difference: Difference, margin: float) -> str:
    """Return `ahead`, `not behind`, `behind` or `not decided yet` for an interval.

    `behind` means more than `margin` points less, and `not behind` excludes that.
    `ahead` excludes 0. An interval that allows both answers decides nothing.
    """
    if difference.low is None or difference.lost:
        return "not decided yet"
    if difference.low > 0:
        return "ahead"
    if difference.low >= -margin:
        return "not behind"
    return "behind" if difference.high < -margin else "not decided yet"


def seeds_needed(difference: Difference, margin: float) -> int | None:
    """Return the total number of seeds that would decide, with this mean and deviation.

    None means that one seed gives no deviation, or that `MOST_SEEDS` would not suffice.
    """
    if difference.low is None or difference.lost:
        return None
    half = (difference.high - difference.low) / 2
    deviation = half * math.sqrt(difference.n) / _quantile(difference.n)
    distance = abs(difference.mean + margin)
    for n in range(difference.n + 1, MOST_SEEDS + 1):
        if _quantile(n) * deviation / math.sqrt(n) < distance:
            return n
    return None


def _quantile(n: int) -> float:
    """Return the quantile of Student's t for an interval over n seeds."""
    return float(t.ppf((1 + CONFIDENCE) / 2, n - 1))
