"""Claims: micro-batches, views, devices and resuming do not change the results.

Sums in another order agree up to rounding (`rounding.py`). A resumed run on the same
devices takes the same steps, so it is bit-identical.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from byol_bnfree.claims.finding import Finding
from byol_bnfree.claims.processes import run_tasks
from byol_bnfree.claims.rounding import rounding
from byol_bnfree.claims.runs import WIDTH_OF_MEMORY, Numbers
from byol_bnfree.claims.settings import (
    STEPS,
    other_optimizer,
    tiny,
    trains_with_batch_statistics,
)
from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.settings.objective_checks import couples_in_loss

Say = Callable[[str], None]
PIECES = (1, 2, 4, 8)  # numbers of micro-batches, and of devices
FEW_AND_MANY = (3, 8)  # views whose memory is compared
LARGEST_SHARE = 1 / 4
"""Of the memory that a view adds in a common pass, if views pass one at a time."""


def pieces_claim(config: TrainConfig, folder: Path, say: Say) -> Finding:
    """Check that k micro-batches equal the full batch, or are rejected.

    BatchNorm rejects them unless it has groups, which moco_v2 rejects. So do losses of
    the whole batch.
    """
    why = couples_in_loss(config)
    if config.objective == "moco_v2" and trains_with_batch_statistics(config):
        why = "the statistics that a query and its own key must not share"
    if why:
        return Finding(
            "micro-batches give the full-batch gradient",
            f"they are refused, because they would change {why}",
            "refused" if _is_refused(config) else "not refused",
            _is_refused(config),
        )
    cut, note = tiny(config), ""
    if trains_with_batch_statistics(config):
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
        f"{', '.join(map(str, PIECES))} pieces{groups}, {_steps(cut)}: state and "
        f"metrics",
        f"{worst:.1e}{limit.words}{note}",
        worst <= limit.tolerance and (not note or _is_refused(config)),
        note=other_optimizer(config),
    )


def _steps(settings: TrainConfig) -> str:
    return (
        f"{STEPS} steps of a small network on CPU devices, in {settings.compute_dtype}"
    )


def _is_refused(config: TrainConfig) -> bool:
    try:
        tiny(config, micro_batches=2)
    except InputError:
        return True
    return False


def views_claim(config: TrainConfig, folder: Path, say: Say) -> Finding:
    """Views that pass one at a time train the network as views that pass together.

    Where micro-batches are allowed, so do views one at a time in two micro-batches.
    The memory of a step must then grow by less than a quarter with the number of views:
    views together keep the activations of all. Targets and small predictor are those of
    the run. Other objectives than BYOL have two views, which always pass together.
    """
    claim = "views one at a time give the same gradient"
    if config.objective != "byol" or config.byol.predictor == "closed_form":
        return Finding(claim, "the objective has two views only", "not needed", True)
    settings, ways = tiny(config), ["views:apart"]
    if not _is_refused(config):
        ways.append("views:pieces")
    say(f"{1 + len(ways)} runs of {STEPS} steps on 1 device")
    results = run_tasks(settings, folder, ["views:together", *ways], devices=1)
    together = results["views:together"]
    limit = rounding(settings, folder, together, "views:together")
    worst = max(limit.apart(results[way], together) for way in ways)
    memory = _memory(settings, folder)
    also = ", and so in 2 micro-batches" if len(ways) > 1 else ""
    return Finding(
        claim,
        f"3 large views and a small one, one at a time{also}; {_steps(settings)}: "
        f"state and metrics",
        f"{worst:.1e}{limit.words}; {memory.words}",
        worst <= limit.tolerance and memory.is_flat,
        note=" ".join(filter(None, [memory.note, other_optimizer(config)])),
    )


class Memory(NamedTuple):
    """Temporary bytes of a step by the number of views, which are few or many."""

    apart: tuple[float, float]
    together: tuple[float, float]

    @property
    def is_flat(self) -> bool:
        """True if views apart add little memory, or the backend reports none."""
        return not self.share >= LARGEST_SHARE  # NaN where it is not reported

    @property
    def share(self) -> float:
        """Growth with views one at a time, over the growth with views together."""
        growth = (many - few for few, many in (self.apart, self.together))
        return float(np.divide(*growth))

    @property
    def words(self) -> str:
        """The share, for the table."""
        if np.isnan(self.share):
            return "memory not reported"
        return f"memory grows {self.share:.2f} times as much"

    @property
    def note(self) -> str:
        """A sentence with the sizes."""
        few, many = FEW_AND_MANY
        apart, together = (
            " and ".join(f"{size / 1e6:.1f}" for size in sizes) for sizes in self
        )
        return (
            f"{few} and {many} large views take {apart} MB of temporary memory one at "
            f"a time, and {together} MB together, in a step of this network at width "
            f"{WIDTH_OF_MEMORY:g}. The images of all views are drawn first, so they "
            f"add up either way."
        )


def _memory(settings: TrainConfig, folder: Path) -> Memory:
    tasks = [f"temporaries:{count}" for count in FEW_AND_MANY]
    found = run_tasks(settings, folder, tasks, devices=1).values()
    return Memory(
        *(tuple(float(sizes[how]) for sizes in found) for how in ("apart", "together"))
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
        f"1, 2, 4, 8 devices, state replicated and sharded; 2 processes of 2 against "
        f"1 of 4; {_steps(settings)}: state and metrics",
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
        f"{_steps(settings)}: with 2, resumed from the checkpoint of each step; and "
        f"from step 2 on 1, on 4, and in 2 processes of 2",
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
