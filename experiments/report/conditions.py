"""Machine, commit and command of a result, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.results import Row, environments
from experiments.runner import STOP

REBASED = {"1f9f797": "85c9c56", "bc6edcd": "aedaf94"}
"""Commits of rows that were rebased before they were published, and what they are in
the history."""


def machine(environment: dict[str, Any]) -> str:
    """Name the machine and its library in a short sentence."""
    packages, cores = environment.get("packages") or {}, environment.get("cores")
    device = environment.get("backend") or "cpu"
    what = f"{cores} core{'s' * (cores != 1)} of {environment.get('cpu')}"
    if device != "cpu":
        what = f"{len(environment['devices'])} {environment['devices'][0]}"
    return f"{what}, jax {packages.get('jax')}."


def commit_of(row: Row) -> str:
    """Return the short hash of a row's code, with a + if files differed from it.

    Of a run that was resumed with other code, it is that of its last part.
    """
    return short_commit(row["environment"] or {})


def short_commit(environment: Mapping[str, Any]) -> str:
    """Return the short hash of an environment, with a + if files differed from it."""
    commit = str(environment.get("commit"))
    return f"{commit[:7]}+" if commit.endswith("-dirty") else commit[:7]


def conditions(rows: Sequence[Row]) -> str:
    """Name the machines and commits of these rows, in whole sentences."""
    parts = [part for row in rows for part in environments(row)]
    where = sorted(set(map(machine, parts)))
    commits = sorted(set(map(short_commit, parts)))
    return f"{' '.join(where)} Commits: {', '.join(commits)}. {rebased(rows)}".strip()


def rebased(rows: Sequence[Row]) -> str:
    """Say what commits that are not in the history are there; empty without one."""
    commits = {commit_of(row)[:7] for row in rows}
    found = [f"{old} is {new}" for old, new in REBASED.items() if old in commits]
    return f"In the history {' and '.join(found)}." if found else ""


def measured_on(row: Row) -> str:
    """Return the split and the data set of a row's accuracies."""
    return f"{row['config']['data']['test_split']} of {row['config']['dataset']}"


def run_command(row: Row) -> str:
    """Return the command that repeats a row of results.jsonl.

    Rows before `runner` recorded it lack the flag that stopped them.
    """
    command = row["command"]
    if row.get("collapsed") and row["config"].get("on_collapse") == "stop":
        missing = [] if STOP in command.split() else [STOP]
        return " ".join([command, *missing])
    return command


def command_of(environment: Mapping[str, Any]) -> str:
    """Return the command of a run, without the folders of its machine."""
    hidden = ("--workdir", "--data-dir")
    flags = [x for x in environment["argv"][1:] if not x.startswith(hidden)]
    return " ".join(["python -m byol_bnfree.train", *flags])
