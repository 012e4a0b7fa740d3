"""`python -m experiments NAME...` runs grids; `report` and `state` write pages."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import tyro

from byol_bnfree.command_line import exit_on_error, parse_args
from byol_bnfree.data.prepared import data_root, find_set
from byol_bnfree.errors import InputError, RunStopped
from byol_bnfree.own_code import full_path, load_function
from experiments import GRIDS
from experiments.grid import Experiment, Run, load_experiment, make_runs
from experiments.paper_scale import compile_all
from experiments.plan import expectation, print_plan
from experiments.queue import run_queue
from experiments.report.state import write_state
from experiments.report.write import write_all, write_report
from experiments.runner import Options, Places
from experiments.scales import SCALES, Scale, scales_of
from experiments.slots import Each, slots

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Arguments:
    """Run grids of training runs, or write the pages about them."""

    names: Annotated[
        tuple[Literal[(*GRIDS, "all", "report", "state")], ...], tyro.conf.Positional
    ]
    """Experiments in the order to run them; or all; or report (pages of results); or
    state (which runs are finished, interrupted or failed, and the time left)."""
    seeds: tuple[int, ...] = (0,)
    """Seeds for every arm."""
    scale: Literal[tuple(SCALES)] = "cpu"
    """cpu is CIFAR-10 with resnet14, 16 epochs; cpu8, cpu30 and cpu40 have another
    number of epochs. A run takes 6 to 30 minutes on two cores. gpu30, gpu100, gpu200:
    CIFAR-10 with ResNet-18, by epochs. paper: ImageNet; steps are built and compiled,
    but not run. smoke: a few steps."""
    arms: tuple[str, ...] = ()
    """Run these arms only."""
    only: tuple[str, ...] = ()
    """Run only arms whose names match a pattern, such as 'bn-*' or '*beta0'."""
    rows: tuple[str, ...] = ()
    """Run only the arms in these rows of the plan, such as 1 4-6."""
    each: Each = "machine"
    """Hardware of a run. machine: runs go one after the other. core, device: each core
    or device has a run of its own, all at the same time."""
    stop_collapsed: bool = False
    """End collapsed runs early. They count as collapsed and have no accuracy."""
    shard: str = "0/1"
    """I/N: every N-th run from the I-th. This splits a grid over machines."""
    dry_run: bool = False
    """Print the grid with the expected time, and stop."""
    out: Path = Path("runs")
    """Folder for the work folders, NAME/SCALE/."""
    results: Path | None = None
    """Folder for NAME/results.jsonl and the report. None: experiments/, but --out at
    smoke scale, with --model and for an installed package."""
    data_dir: str | None = None
    """Root of prepared tensorflow-datasets."""
    model: str | None = None
    """FILE:FUNCTION that makes the encoder of every arm, as in byol_bnfree.train.
    Results are kept apart from ours: --results is --out, and `report` needs --model
    again."""


def main(argv: Sequence[str] | None = None) -> None:
    """Plan, run and report. Raise `InputError` before any run for wrong arguments."""
    arguments = tyro.cli(
        Arguments,
        args=sys.argv[1:] if argv is None else list(argv),
        prog="python -m experiments",
        description="BYOL without batch statistics, beside vanilla BYOL.",
    )
    places = _places(arguments)
    scales = scales_of(_model(arguments.model))
    os.chdir(ROOT)  # recipes have paths relative to it
    scale = scales[arguments.scale]
    if arguments.names in (("report",), ("state",)):
        (page,) = arguments.names
        print(
            write_all(places.results, scales=scales)
            if page == "report"
            else write_state(scale, arguments.seeds, places)
        )
        return
    experiments = [load_experiment(name) for name in _names(arguments.names)]
    grids = {e.name: _chosen(e, scale, arguments) for e in experiments}
    runs = _shared(list(chain.from_iterable(grids.values())), arguments.shard)
    if scale.name != "paper":
        _check_data(runs, arguments.data_dir)
    for experiment in experiments:
        own = [run for run in runs if run.experiment == experiment.name]
        print_plan(experiment, scale, own, places)
    if arguments.dry_run:
        return
    if scale.name == "paper":
        compile_all(runs)
        return
    _run(experiments, scale, runs, places, arguments)


def _run(
    experiments: Sequence[Experiment],
    scale: Scale,
    runs: list[Run],
    places: Places,
    arguments: Arguments,
) -> None:
    """Run the queue, then write each report. Raise `RunStopped` if runs failed."""
    done = run_queue(
        runs,
        places,
        slots(arguments.each),
        Options(arguments.stop_collapsed),
        expectation(scale, places),
    )
    finished = sum(places.state(run) == "finished" for run in runs)
    print(f"{finished} of {len(runs)} runs are finished.")
    for experiment in experiments:
        if write_report(experiment, places.results, {scale.name: scale}):
            print(places.results / experiment.name / "report.html")
    print(write_state(scale, arguments.seeds, places))
    if done.elsewhere:
        print(f"{len(done.elsewhere)} runs are another queue's.")
    if done.failures:
        names = ", ".join(
            f"{f.run.experiment} {f.run.arm} seed {f.run.seed}" for f in done.failures
        )
        raise RunStopped(f"{len(done.failures)} failed: {names}; see above.")


def _names(names: Sequence[str]) -> Sequence[str]:
    """Return the experiments to run, in order."""
    if not names or len(set(names)) < len(names):
        raise InputError(
            f"names are {' '.join(names) or 'none'}; give one experiment or more, each "
            f"once, or all: {', '.join(GRIDS)}."
        )
    if names == ("all",):
        return GRIDS
    if alone := {"all", "report", "state"} & set(names):
        raise InputError(f"{alone.pop()} must be the only name; remove the others.")
    return names


def _places(arguments: Arguments) -> Places:
    """Return absolute paths, because the working directory changes later."""
    out = arguments.out.absolute()
    installed = not (ROOT / "pyproject.toml").exists()
    own = arguments.scale == "smoke" or installed or arguments.model is not None
    results = arguments.results or (out if own else ROOT / "experiments")
    data_dir = arguments.data_dir and str(Path(arguments.data_dir).absolute())
    return Places(out, results.absolute(), data_dir)


def _model(where: str | None) -> str | None:
    """Return `FILE:FUNCTION` with an absolute path.

    Raises:
      InputError: if there is no such function. Every run would fail later.
    """
    if where is None:
        return None
    load_function(where, "model")
    return full_path(where)


def _chosen(experiment: Experiment, scale: Scale, arguments: Arguments) -> list[Run]:
    seeds = arguments.seeds
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InputError(f"seeds are {seeds}; give different ones of zero or more.")
    known = [arm.name for arm in experiment.arms(scale)]
    for name in arguments.arms:
        if name not in known:
            raise InputError(f"arm {name} is unknown; choose from {', '.join(known)}.")
    wanted = _by_pattern(_by_row(known, arguments.rows), arguments.only)
    if not wanted:
        raise InputError(
            f"no arm of {experiment.name} fits --only {' '.join(arguments.only)} and "
            f"--rows {' '.join(arguments.rows)}; see --dry-run for names and rows."
        )
    runs = make_runs(experiment, scale, seeds)
    return [
        run
        for run in runs
        if run.arm in wanted and (not arguments.arms or run.arm in arguments.arms)
    ]


def _by_pattern(names: list[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that match a shell pattern; all names without patterns."""
    if not patterns:
        return names
    return [n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns)]


def _by_row(names: list[str], rows: Sequence[str]) -> list[str]:
    """Return the names in some rows, such as 3 or 2-5 (from 1); all without rows."""
    wanted: set[int] = set()
    for text in rows:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
        first, last = (int(n or match[1]) for n in match.groups()) if match else (0, 0)
        if not 1 <= first <= last <= len(names):
            raise InputError(
                f"rows has {text!r}; give N or N-M from 1 to {len(names)}."
            )
        wanted |= set(range(first, last + 1))
    return [n for i, n in enumerate(names, 1) if i in wanted or not rows]


def _shared(runs: list[Run], shard: str) -> list[Run]:
    first, step = _shard(shard)
    return runs[first::step]


def _shard(text: str) -> tuple[int, int]:
    """Parse the index and the number of parts."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    index, parts = (int(n) for n in match.groups()) if match else (0, 0)
    if not index < parts:
        raise InputError(f"shard is {text!r}; give I/N with I from 0 to N - 1.")
    return index, parts


def _check_data(runs: list[Run], data_dir: str | None) -> None:
    """Report a missing data set once, instead of in every run."""
    for dataset in {parse_args(run.flags).dataset for run in runs} - {"shapes"}:
        find_set(dataset, data_root(data_dir))


if __name__ == "__main__":
    exit_on_error(main)
