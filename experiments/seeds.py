"""Means, deviations and paired differences of a few seeds."""

import math
import statistics
from collections.abc import Mapping
from typing import NamedTuple

from scipy.stats import t

CONFIDENCE = 0.95


class Spread(NamedTuple):
    """Of a figure over seeds."""

    mean: float
    std: float | None
    """Of the sample (n - 1); None of one seed."""
    n: int


class Difference(NamedTuple):
    """Mean of a - b over the seeds that both have."""

    mean: float
    low: float | None
    """End of the 95 % interval of paired t; None of one seed."""
    high: float | None
    n: int


def spread(values: Mapping[int, float]) -> Spread | None:
    """Of one figure for each seed; None of none."""
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
    quantile = t.ppf((1 + CONFIDENCE) / 2, both.n - 1)
    half = float(quantile) * both.std / math.sqrt(both.n)
    return Difference(both.mean, both.mean - half, both.mean + half, both.n)
