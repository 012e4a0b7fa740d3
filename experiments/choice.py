"""Chooses experiments and runs by the arguments of `python -m experiments`."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import chain

from byol_bnfree.errors import InputError
from experiments import GRIDS
from experiments.arguments import ALL, Arguments
from experiments.grid import Experiment, Run, make_runs
from experiments.measuring import check_seeds
from experiments.scales import Scale

FILTERS = ("arms", "only", "rows")
"""Arguments that choose arms."""


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
    experiments: Sequence[Experiment], scale: Scale, arguments: Arguments
) -> dict[str, list[Run]]:
    """Return the runs that the arguments name, by experiment.

    An experiment is left out if no arm of it fits.

    Raises:
      InputError: for impossible seeds, for names or rows that no experiment has, and if
        no arm fits.
    """
    check_seeds(arguments.seeds)
    given = {name: _given(arguments, name) for name in FILTERS}
    arms = {e.name: [arm.name for arm in e.arms(scale)] for e in experiments}
    _check_arms(given["arms"], arms)
    rows = _rows(given["rows"], max(map(len, arms.values())))
    wanted = {}
    for name, known in arms.items():
        names = [n for i, n in enumerate(known, 1) if i in rows or not rows]
        names = _by_pattern(names, given["only"])
        wanted[name] = [n for n in names if n in given["arms"] or not given["arms"]]
    if not any(wanted.values()):
        raise InputError(
            f"no arm of {' or '.join(arms)} fits {_filters(arguments)}; see --dry-run "
            f"for names and rows."
        )
    return {
        e.name: [
            run
            for run in make_runs(e, scale, arguments.seeds)
            if run.arm in wanted[e.name]
        ]
        for e in experiments
        if wanted[e.name]
    }


def skipped(
    experiments: Sequence[Experiment],
    grids: Mapping[str, Sequence[Run]],
    arguments: Arguments,
) -> str:
    """Name the experiments without an arm that fits; empty if there is none."""
    names = [e.name for e in experiments if e.name not in grids]
    if not names:
        return ""
    return f"skipped, because no arm fits {_filters(arguments)}: {', '.join(names)}"


def _check_arms(names: Sequence[str], arms: Mapping[str, Sequence[str]]) -> None:
    """Raise `InputError` for a name that no experiment has."""
    known = list(dict.fromkeys(chain.from_iterable(arms.values())))
    for name in names:
        if name not in known:
            choices = f"choose from {', '.join(known)}"
            if len(arms) > 1:
                choices = "see --dry-run for the arms of these experiments"
            raise InputError(f"arm {name} is unknown; {choices}.")


def _filters(arguments: Arguments) -> str:
    """Return the arguments that choose arms, as they were given."""
    return " and ".join(
        f"--{name} {' '.join(given)}"
        for name in FILTERS
        if (given := _given(arguments, name))
    )


def _given(arguments: Arguments, name: str) -> tuple[str, ...]:
    """Return what was given to choose arms; nothing means all of them.

    Raises:
      InputError: for an argument without a value.
    """
    given = getattr(arguments, name)
    if not given:
        raise InputError(f"--{name} has no value; give some, or leave it out for all.")
    return () if given == ALL else given


def _by_pattern(names: list[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that match a shell pattern; all names without patterns."""
    if not patterns:
        return names
    return [n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns)]


def _rows(rows: Sequence[str], most: int) -> set[int]:
    """Return the numbers in texts such as 3 or 2-5, which are from 1 to `most`."""
    wanted: set[int] = set()
    for text in rows:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
        first, last = (int(n or match[1]) for n in match.groups()) if match else (0, 0)
        if not 1 <= first <= last <= most:
            raise InputError(f"rows has {text!r}; give N or N-M from 1 to {most}.")
        wanted |= set(range(first, last + 1))
    return wanted


def shared(runs: list[Run], shard: str) -> list[Run]:
    """Return the runs of this part of a grid; `shard` is "I/N".

    Equal runs of several experiments are in one part, so they are trained once. The
    arms of a seed are dealt out beginning with another part for each seed, so no arm
    stays on one machine.

    Raises:
      InputError: if it is no such text, or the part has no run.
    """
    index, parts = _shard(shard)
    seeds: dict[int, dict[tuple[str, str, int], None]] = {}
    for run in runs:
        seeds.setdefault(run.seed, {})[run.training] = None
    part_of: dict[tuple[str, str, int], int] = {}
    dealt = 0
    for turn, trainings in enumerate(seeds.values()):
        shift = 0 if len(trainings) % parts else turn
        for training in trainings:
            part_of[training] = (dealt + shift) % parts
            dealt += 1
    own = [run for run in runs if part_of[run.training] == index]
    if not own:
        raise InputError(
            f"shard is {shard!r}, but the grid has {len(part_of)} different runs, so "
            f"this part is empty; give at most {len(part_of)} parts."
        )
    return own


def _shard(text: str) -> tuple[int, int]:
    """Parse the index and the number of parts."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    index, parts = (int(n) for n in match.groups()) if match else (0, 0)
    if not index < parts:
        raise InputError(f"shard is {text!r}; give I/N with I from 0 to N - 1.")
    return index, parts
