"""Means, deviations and paired differences of a few seeds."""

import math
import statistics
from collections.abc import Mapping
from typing import NamedTuple

from scipy.stats import t

CONFIDENCE = 0.95
MOST_SEEDS = 100
"""More seeds than anybody runs."""


class Spread(NamedTuple):
    """Mean and deviation of a figure over seeds."""

    mean: float
    std: float | None
    """Deviation of the sample (n - 1); None for one seed."""
    n: int


class Difference(NamedTuple):
    """Mean of a - b over the seeds that both have."""

    mean: float
    low: float | None
    """End of the 95 % interval of paired t; None of one seed."""
    high: float | None
    n: int


def spread(values: Mapping[int, float]) -> Spread | None:
    """Mean and deviation of one figure for each seed; None without any."""
    numbers = list(values.values())
    if not numbers:
        return None
    std = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Spread(statistics.fmean(numbers), std, len(numbers))


def paired_difference(
    a: Mapping[int, float], b: Mapping[int, float]
) -> Difference | None:
    """a - b, seed by seed: what arms share in a seed does not widen the interval."""
    both = spread({seed: a[seed] - b[seed] for seed in a.keys() & b.keys()})
    if both is None:
        return None
    if both.std is None:
        return Difference(both.mean, None, None, 1)
    half = _quantile(both.n) * both.std / math.sqrt(both.n)
    return Difference(both.mean, both.mean - half, both.mean + half, both.n)


def verdict(difference: Difference, margin: float) -> str:
    """`ahead`, `not behind`, `behind` or `not decided yet`, by the whole interval.

    `behind` is more than `margin` points less, and `not behind` rules that out; `ahead`
    rules out 0. An interval that allows both answers decides nothing.
    """
    if difference.low is None:
        return "not decided yet"
    if difference.low > 0:
        return "ahead"
    if difference.low >= -margin:
        return "not behind"
    return "behind" if difference.high < -margin else "not decided yet"


def seeds_needed(difference: Difference, margin: float) -> int | None:
    """Seeds in all that would decide, if mean and deviation stay as they are.

    None where one seed tells no deviation, and where `MOST_SEEDS` would not do.
    """
    if difference.low is None:
        return None
    half = (difference.high - difference.low) / 2
    deviation = half * math.sqrt(difference.n) / _quantile(difference.n)
    distance = abs(difference.mean + margin)
    for n in range(difference.n + 1, MOST_SEEDS + 1):
        if _quantile(n) * deviation / math.sqrt(n) < distance:
            return n
    return None


def _quantile(n: int) -> float:
    """Quantile of Student's t for an interval over n seeds."""
    return float(t.ppf((1 + CONFIDENCE) / 2, n - 1))
