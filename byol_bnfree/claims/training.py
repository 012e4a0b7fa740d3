"""Claims: micro-batches, views, devices and resuming do not change the results.

Sums in another order agree up to rounding. A resumed run on the same devices takes the
same steps, so it is bit-identical. The rounding of bfloat16 is large, so it is
measured: see `Rounding`.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from byol_bnfree.claims.finding import Finding
from byol_bnfree.claims.processes import run_tasks
from byol_bnfree.claims.runs import Numbers
from byol_bnfree.claims.settings import (
    STEPS,
    other_optimizer,
    tiny,
    uses_batch_statistics,
)
from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.settings.objective_checks import couples_in_loss

Say = Callable[[str], None]
LEFT_OUT = ("metrics/collapse", "metrics/probe/top")
TOLERANCE = 1e-4
"""Largest allowed `deviation` between runs that add in another order."""
PIECES = (1, 2, 4, 8)  # numbers of micro-batches, and of devices


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


def pieces_claim(config: TrainConfig, folder: Path, say: Say) -> Finding:
    """Check that k micro-batches equal the full batch, or are rejected.

    BatchNorm rejects them unless it has groups. So do losses of the whole batch.
    """
    if why := couples_in_loss(config):
        return Finding(
            "micro-batches give the full-batch gradient",
            f"they are refused, because they would change {why}",
            "refused" if _is_refused(config) else "not refused",
            _is_refused(config),
        )
    cut, note = tiny(config), ""
    if uses_batch_statistics(config):
        # Groups of 8 images: with two, BatchNorm is nearly a sign function.
        cut, note = tiny(config, bn_stat_groups=8, batch_size=64), "; refused without"
    say(f"{len(PIECES)} runs of {STEPS} steps on 1 device")
    results = run_tasks(cut, folder, [f"pieces:{k}" for k in PIECES], devices=1)
    whole = results.pop("pieces:1")
    limit = rounding(cut, folder, whole, "pieces:1")
    worst = max(limit.apart(result, whole) for result in results.values())
    groups = " (--bn-stat-groups=8)" if note else ""
    return Finding(
        "micro-batches give the full-batch gradient",
        f"{', '.join(map(str, PIECES))} pieces{groups}, {STEPS} steps of a small "
        f"network: state and metrics",
        f"{worst:.1e}{limit.words}{note}",
        worst <= limit.tolerance and (not note or _is_refused(config)),
        note=other_optimizer(config),
    )


def _is_refused(config: TrainConfig) -> bool:
    try:
        tiny(config, micro_batches=2)
    except InputError:
        return True
    return False


def views_claim(config: TrainConfig, folder: Path, say: Say) -> Finding:
    """Views that pass one at a time train the network as views that pass together.

    Other objectives than BYOL have two views, which always pass together.
    """
    claim = "views one at a time give the same gradient"
    if config.objective != "byol" or config.byol.predictor == "closed_form":
        return Finding(claim, "the objective has two views only", "not needed", True)
    say(f"2 runs of {STEPS} steps on 1 device")
    tasks = ["views:together", "views:apart"]
    settings = tiny(config)
    results = run_tasks(settings, folder, tasks, devices=1)
    together = results["views:together"]
    limit = rounding(settings, folder, together, "views:together")
    worst = limit.apart(results["views:apart"], together)
    return Finding(
        claim,
        f"3 large views and a small one, {STEPS} steps of a small network: state and "
        f"metrics",
        f"{worst:.1e}{limit.words}",
        worst <= limit.tolerance,
        note=other_optimizer(config),
    )


def devices_claim(config: TrainConfig, folder: Path, say: Say) -> Finding:
    """Check that 1, 2, 4, 8 devices and two processes agree, replicated or sharded."""
    settings, both = tiny(config), ["replicated", "sharded"]
    say(f"{STEPS} steps on 1 device")
    one = run_tasks(settings, folder, both[:1], devices=1)["replicated"]
    limit = rounding(settings, folder, one, "replicated")
    worst, sharded = 0.0, {}
    for devices in (2, 4, 8):
        say(f"{STEPS} steps on {devices} devices, replicated and sharded")
        results = run_tasks(settings, folder, both, devices=devices)
        worst = max(worst, *(limit.apart(run, one) for run in results.values()))
        sharded[devices] = results["sharded"]
    say(f"{STEPS} steps in 2 processes of 2 devices")
    # The comparison is with 4 devices in one process: the program is the same.
    two = run_tasks(settings, folder, both[1:], devices=2, processes=2)
    across = limit.apart(two["sharded"], sharded[4])
    return Finding(
        "the number of devices and processes does not matter",
        f"1, 2, 4, 8 CPU devices, state replicated and sharded; 2 processes of 2 "
        f"against 1 of 4; {STEPS} steps of a small network: state and metrics",
        f"devices {worst:.1e}, processes {across:.1e}{limit.words}",
        max(worst, across) <= limit.tolerance,
        note=other_optimizer(config),
    )


def resume_claim(config: TrainConfig, folder: Path, say: Say) -> Finding:
    """Check that a resumed run ends exactly like an uninterrupted one."""
    settings, steps = tiny(config), range(1, STEPS)
    again = [f"continue:{step}" for step in steps]
    say(f"{STEPS} steps on 2 devices, resumed at every one")
    same = run_tasks(settings, folder, ["record", *again], devices=2)
    whole = same.pop("record")
    limit = rounding(settings, folder, whole, "replicated")
    other = []
    for devices, processes in ((1, 1), (4, 1), (2, 2)):
        say(f"resumed: processes {processes}, devices of each {devices}")
        other += run_tasks(settings, folder, again[1:2], devices, processes).values()
    # Other devices add in another order, so only the same ones can be exact.
    exact = all(_equal(run, whole) for run in same.values())
    worst = max(limit.apart(_tail(whole, run), run) for run in other)
    return Finding(
        "a resumed run equals an uninterrupted one",
        f"{STEPS} steps of a small network on 2 devices, resumed from the checkpoint "
        f"of each; and from step 2 on 1, on 4, and in 2 processes of 2",
        f"same devices {'bit-identical' if exact else 'not equal'}; "
        f"others {worst:.1e}{limit.words}",
        exact and worst <= limit.tolerance,
        note=other_optimizer(config),
    )


def _tail(whole: Numbers, resumed: Numbers) -> Numbers:
    """Cut the metrics of the whole run to the steps of the resumed one."""
    return {
        name: array[-len(resumed[name]) :] if name.startswith("metrics/") else array
        for name, array in whole.items()
    }


def _equal(resumed: Numbers, whole: Numbers) -> bool:
    tail = _tail(whole, resumed)
    return all(np.array_equal(resumed[k], tail[k], equal_nan=True) for k in whole)
