"""Chooses experiments and runs by the arguments of `python -m experiments`."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from byol_bnfree.errors import InputError
from experiments import GRIDS
from experiments.arguments import Arguments
from experiments.grid import Experiment, Run, make_runs
from experiments.scales import Scale


def chosen_names(names: Sequence[str]) -> Sequence[str]:
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


def chosen_runs(
    experiment: Experiment, scale: Scale, arguments: Arguments
) -> list[Run]:
    """Return the runs of an experiment that the arguments name.

    Raises:
      InputError: for impossible seeds, and for names, patterns or rows without an arm.
    """
    seeds = arguments.seeds
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InputError(f"seeds are {seeds}; give different ones of zero or more.")
    known = [arm.name for arm in experiment.arms(scale)]
    for name in arguments.arms:
        if name not in known:
            raise InputError(f"arm {name} is unknown; choose from {', '.join(known)}.")
    wanted = _by_pattern(_by_row(known, arguments.rows), arguments.only)
    if arguments.arms:
        wanted = [name for name in wanted if name in arguments.arms]
    if not wanted:
        given = [
            f"--{name} {' '.join(getattr(arguments, name))}"
            for name in ("arms", "only", "rows")
            if getattr(arguments, name)
        ]
        raise InputError(
            f"no arm of {experiment.name} fits {' and '.join(given)}; see --dry-run "
            f"for names and rows."
        )
    return [run for run in make_runs(experiment, scale, seeds) if run.arm in wanted]


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


def shared(runs: list[Run], shard: str) -> list[Run]:
    """Return the runs of this part of a grid; `shard` is "I/N"."""
    first, step = _shard(shard)
    return runs[first::step]


def _shard(text: str) -> tuple[int, int]:
    """Parse the index and the number of parts."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    index, parts = (int(n) for n in match.groups()) if match else (0, 0)
    if not index < parts:
        raise InputError(f"shard is {text!r}; give I/N with I from 0 to N - 1.")
    return index, parts
