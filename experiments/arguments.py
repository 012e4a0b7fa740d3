"""The arguments of `python -m experiments`. They need no JAX, so `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from byol_bnfree.settings.types import check_types
from experiments import GRIDS
from experiments.scales import SCALES
from experiments.slots import Each

ALL = ("all",)
"""An empty list is a slip, such as an empty variable of a script, and not all."""


@dataclass(frozen=True)
class Arguments:
    """Run grids of training runs, or write the pages about them."""

    names: Annotated[
        tuple[Literal[(*GRIDS, "all", "report", "state")], ...], tyro.conf.Positional
    ]
    """Experiments in the order to run them; or all; or report (pages of results); or
    state (which runs are finished, interrupted or new, which of them collapsed or
    diverged, and the time left). report and state take few other flags."""
    seeds: tuple[int, ...] = (0,)
    """Seeds for every arm."""
    scale: Literal[tuple(SCALES)] = "cpu"
    """cpu is CIFAR-10 with resnet14, 16 epochs; cpu4, cpu8, cpu30, cpu40, cpu_hour (64)
    and cpu144 have another number of epochs. On two cores with the cpu extra, a run of
    16 epochs takes 6 to 32 minutes. gpu30, gpu100, gpu200: CIFAR-10 with ResNet-18, by
    epochs. paper: ImageNet; steps are built and compiled, but not run. smoke: a few
    steps."""
    arms: tuple[str, ...] = ALL
    """Run these arms only. Experiments without an arm that fits are skipped."""
    only: tuple[str, ...] = ALL
    """Run only arms whose names match a pattern, such as 'bn-*' or '*beta0'."""
    rows: tuple[str, ...] = ALL
    """Run only the arms in these rows of the plan, such as 1 4-6."""
    each: Each = "machine"
    """Hardware of a run. machine: runs go one after the other. core, device: each core
    or device has a run of its own, all at the same time."""
    stop_collapsed: bool = False
    """End collapsed runs early. They count as collapsed and have no accuracy."""
    shard: str = "0/1"
    """I/N: every N-th run from the I-th. This splits a grid over machines."""
    dry_run: bool = False
    """Print the grid with the expected time, and stop. It needs no data."""
    out: Path = Path("runs")
    """Folder for the work folders, NAME/SCALE/."""
    results: Path | None = None
    """Folder for NAME/results.jsonl and the report. None: experiments/, or --out with
    the scale smoke, with --model, or in an installed package."""
    data_dir: str | None = None
    """Root of the prepared data sets. None: $TFDS_DATA_DIR, or
    ~/tensorflow_datasets."""
    model: str | None = None
    """FILE:FUNCTION that makes the encoder of every arm, as in byol_bnfree.train.
    Results are kept apart from ours: --results is --out, and `report` needs --model
    again."""

    def __post_init__(self):
        check_types(self)
