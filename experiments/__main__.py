"""`python -m experiments NAME` runs a grid, `python -m experiments report` reports."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from byol_bnfree.command_line import exit_on_error, parse_args
from byol_bnfree.data.prepared import data_root, find_set
from byol_bnfree.errors import InputError, RunStopped
from experiments import GRIDS
from experiments.grid import Experiment, Run, load_experiment, make_runs
from experiments.paper_scale import compile_all
from experiments.plan import print_plan
from experiments.report.write import write_all, write_report
from experiments.runner import Places, run_grid
from experiments.scales import SCALES, Scale

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Arguments:
    """Run an experiment's grid of training runs, or write the report of them all."""

    name: Annotated[Literal[(*GRIDS, "report")], tyro.conf.Positional]
    """An experiment, or report."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of every arm."""
    scale: Literal[tuple(SCALES)] = "cpu"
    """cpu, cpu40: CIFAR-10 with resnet14, 16 or 40 epochs; 12 or 30 minutes a run on
    two cores. gpu30, gpu100, gpu200: CIFAR-10 with ResNet-18, by epochs. paper:
    ImageNet; the step is built and compiled, nothing is run. smoke: a few steps."""
    arms: tuple[str, ...] = ()
    """Only these arms."""
    shard: str = "0/1"
    """I/N: every N-th run from the I-th, to split a grid over machines."""
    dry_run: bool = False
    """Print the grid with the expected time, and stop."""
    out: Path = Path("runs")
    """Where the work folders are, in NAME/SCALE/."""
    results: Path | None = None
    """Where NAME/results.jsonl and its report are; none: experiments/, and --out at
    smoke scale or where the package is installed."""
    data_dir: str | None = None
    """Root of prepared tensorflow-datasets."""


def main(argv: Sequence[str] | None = None) -> None:
    """Plan, run, report; `InputError` before any run for what cannot be."""
    arguments = tyro.cli(
        Arguments,
        args=sys.argv[1:] if argv is None else list(argv),
        prog="python -m experiments",
        description="BYOL without batch statistics, beside vanilla BYOL.",
    )
    places = _places(arguments)
    os.chdir(ROOT)  # recipes are named from there
    if arguments.name == "report":
        print(write_all(places.results))
        return
    scale, experiment = SCALES[arguments.scale], load_experiment(arguments.name)
    runs = _chosen(experiment, scale, arguments)
    if scale.name != "paper":
        _check_data(runs, arguments.data_dir)
    print_plan(experiment, scale, runs, places)
    if arguments.dry_run:
        return
    if scale.name == "paper":
        compile_all(runs)
        return
    failures = run_grid(runs, places)
    print(f"{len(runs) - len(failures)} of {len(runs)} runs are finished.")
    if write_report(experiment, places.results):
        print(places.results / experiment.name / "report.html")
    if failures:
        names = ", ".join(f"{f.run.arm} seed {f.run.seed}" for f in failures)
        raise RunStopped(f"{len(failures)} failed: {names}; see above.")


def _places(arguments: Arguments) -> Places:
    """Absolute, as the working directory is to change."""
    out = arguments.out.absolute()
    installed = not (ROOT / "pyproject.toml").exists()
    own = arguments.scale == "smoke" or installed
    results = arguments.results or (out if own else ROOT / "experiments")
    data_dir = arguments.data_dir and str(Path(arguments.data_dir).absolute())
    return Places(out, results.absolute(), data_dir)


def _chosen(experiment: Experiment, scale: Scale, arguments: Arguments) -> list[Run]:
    seeds = arguments.seeds
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InputError(f"seeds are {seeds}; give different ones of zero or more.")
    known = [arm.name for arm in experiment.arms(scale)]
    for name in arguments.arms:
        if name not in known:
            raise InputError(f"arm {name} is unknown; choose from {', '.join(known)}.")
    runs = make_runs(experiment, scale, seeds)
    wanted = [r for r in runs if not arguments.arms or r.arm in arguments.arms]
    first, step = _shard(arguments.shard)
    return wanted[first::step]


def _shard(text: str) -> tuple[int, int]:
    """Index and number of parts."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    index, parts = (int(n) for n in match.groups()) if match else (0, 0)
    if not index < parts:
        raise InputError(f"shard is {text!r}; give I/N with I from 0 to N - 1.")
    return index, parts


def _check_data(runs: list[Run], data_dir: str | None) -> None:
    """A set that is not on disk is said once, not by every run."""
    for dataset in {parse_args(run.flags).dataset for run in runs} - {"shapes"}:
        find_set(dataset, data_root(data_dir))


if __name__ == "__main__":
    exit_on_error(main)
