"""Machine and commit of a result, in words."""

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
