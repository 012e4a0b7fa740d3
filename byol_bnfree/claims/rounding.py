"""How far two runs may be apart that differ only in rounding.

Sums in another order agree up to rounding. The rounding of bfloat16 is large, so it is
measured: see `Rounding`.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from byol_bnfree.claims.processes import run_tasks
from byol_bnfree.claims.runs import Numbers
from byol_bnfree.config import TrainConfig

LEFT_OUT = ("metrics/collapse", "metrics/probe/top")
TOLERANCE = 1e-4
"""Largest allowed `deviation` between runs that add in another order."""


class Rounding(NamedTuple):
    """How runs are compared, and how far they may be apart."""

    apart: Callable[[Numbers, Numbers], float]
    tolerance: float

    @property
    def words(self) -> str:
        """The tolerance, where it was measured."""
        if self.apart is deviation:
            return ""
        return f" (bfloat16 rounds to {self.tolerance:.1e})"


def rounding(config: TrainConfig, folder: Path, whole: Numbers, task: str) -> Rounding:
    """Of a configuration whose `task` on one device gives `whole`.

    In bfloat16 a run may be as far from the exact one as from a run in float32. Two
    such runs are then at most twice as far apart.
    """
    if config.compute_dtype != "bfloat16":
        return Rounding(deviation, TOLERANCE)
    exact = dataclasses.replace(config, compute_dtype="float32")
    place = folder / "float32"
    place.mkdir(exist_ok=True)
    other = run_tasks(exact, place, [task], devices=1)[task]
    return Rounding(distance, 2 * distance(other, whole))


def distance(a: Numbers, b: Numbers) -> float:
    """Largest relative l2 distance of a part of the state, or of a metric.

    `deviation` takes the worst number of an array, which says nothing in bfloat16: the
    update of a small direction is all rounding.
    """
    return max(
        float(np.nan_to_num(np.sqrt(apart / size), nan=np.inf)) if size else apart
        for apart, size in _squares(a, b).values()
    )


def _squares(a: Numbers, b: Numbers) -> dict[str, tuple[float, float]]:
    """Sums of squares by part: of the differences, and of the second."""
    sums: dict[str, tuple[float, float]] = {}
    for name, array in b.items():
        if name.startswith(LEFT_OUT):
            continue
        part = name if name.startswith("metrics/") else name.split("/")[0]
        before, size = sums.get(part, (0.0, 0.0))
        apart = np.square(a[name].astype(float) - array).sum()
        sums[part] = (before + apart, size + np.square(array.astype(float)).sum())
    return sums


def deviation(a: Numbers, b: Numbers) -> float:
    """Return the largest difference, relative to the largest value of its array.

    Some arrays are nearly zero beside the rest of their part of the state, such as the
    momentum of a bias before a norm. They consist of rounding errors, so the scale is
    at least a thousandth of the part's largest value. Collapse measures are left out,
    because a rank depends on which values count as zero. So are the probe's accuracies.
    """
    largest = 0.0
    for name in b:
        if name.startswith(LEFT_OUT):
            continue
        if not (np.isfinite(a[name]).all() and np.isfinite(b[name]).all()):
            return math.inf  # a run that diverges shows nothing
        part = name.split("/")[0] if not name.startswith("metrics/") else name
        peers = [np.abs(b[n]).max() for n in b if n.startswith(part)]
        scale = max(np.abs(b[name]).max(), 1e-3 * max(peers)) or 1.0
        difference = np.abs(a[name].astype(float) - b[name]).max()
        largest = max(largest, float(difference / scale))
    return largest
