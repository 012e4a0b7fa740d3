"""Machine, commit and command of a result, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.results import Row


def machine(environment: dict[str, Any]) -> str:
    """Name the machine and its library in a short sentence."""
    packages, cores = environment.get("packages") or {}, environment.get("cores")
    device = environment.get("backend") or "cpu"
    what = f"{cores} core{'s' * (cores != 1)} of {environment.get('cpu')}"
    if device != "cpu":
        what = f"{len(environment['devices'])} {environment['devices'][0]}"
    return f"{what}, jax {packages.get('jax')}."


def commit_of(row: Row) -> str:
    """Return the short hash of a row's code, with a + if files differed from it."""
    commit = str((row["environment"] or {}).get("commit"))
    return commit[:7] + "+" * commit.endswith("-dirty")


def conditions(rows: Sequence[Row]) -> str:
    """Name the machines and commits of these rows, in whole sentences."""
    where = sorted({machine(row["environment"] or {}) for row in rows})
    commits = sorted({commit_of(row) for row in rows})
    return f"{' '.join(where)} Commits: {', '.join(commits)}."


def command_of(environment: Mapping[str, Any]) -> str:
    """Return the command of a run, without the folders of its machine."""
    hidden = ("--workdir", "--data-dir")
    flags = [x for x in environment["argv"][1:] if not x.startswith(hidden)]
    return " ".join(["python -m byol_bnfree.train", *flags])
