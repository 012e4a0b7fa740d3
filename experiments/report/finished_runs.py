"""Reads finished runs: their curves, and how they were made."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from byol_bnfree.command_line import parse_args
from byol_bnfree.config import HOW_NOT_WHAT
from byol_bnfree.errors import InputError
from byol_bnfree.files import flatten, read_rows, strict
from experiments.report.conditions import command_of
from experiments.results import curves, moment, read_parts, read_results

ARMS = ("bn", "gn_ws")
APART = "collapse/one_minus_negative_cosine"
"""A derived metric: the limit of a collapse is a distance, and the log has a cosine."""


class Run(NamedTuple):
    """A finished run."""

    arm: str
    curves: Mapping[str, Sequence[Sequence[float | None]]]
    """Maps a metric to its steps and values."""
    per_epoch: float
    """Number of steps in an epoch."""
    command: str
    environment: Mapping[str, Any]
    differences: tuple[str, ...] = ()
    """Settings that the command no longer gives, each in words."""


def read_runs(path: Path) -> list[Run]:
    """The runs of a work folder or a results.jsonl.

    A recipe may have changed since a row of results.jsonl was written. Such a run has
    `differences`.

    Raises: InputError where there is no metric.
    """
    if path.suffix == ".jsonl":
        rows = [
            row for row in read_results(path) if row["arm"] in ARMS and row["summary"]
        ]
        rows.sort(key=moment)  # files may have been joined
        newest = {(r["scale"], r["arm"], r["seed"]): r for r in rows}
        runs = [(_run(r["arm"], r, _whole(r)), r) for r in newest.values()]
        return [run._replace(differences=_differences(row)) for run, row in runs]
    rows = read_rows(path / "metrics.jsonl")
    if not rows:
        raise InputError(f"{path / 'metrics.jsonl'} has no row; give a finished run.")
    row = read_parts(path, "summary", "environment", "config")
    row["command"] = command_of(row["environment"])
    found = curves(rows)
    if row["config"]["evaluation"]["knn_every_epochs"]:  # else of fewer images
        found["knn/top1"] = _with_ends(found.get("knn/top1"), row["summary"])
    return [_run(row["summary"]["norm"], row, found)]


def _differences(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Compare the settings of a row with those that its command gives today.

    A run decides what its command leaves open: None, and the dtype "auto".
    """
    today = _trained(strict(dataclasses.asdict(parse_args(row["command"].split()[3:]))))
    return tuple(
        f"{name} was {value}, today it is {today[name]}"
        for name, value in _trained(row["config"]).items()
        if today.get(name) not in (None, "auto", value)
    )


def _trained(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name, without those that say how and not what is trained."""
    return flatten({k: v for k, v in settings.items() if k not in HOW_NOT_WHAT})


def _whole(row: Mapping[str, Any]) -> dict[str, Any]:
    """The curves of a row of results.jsonl, kNN from before training to the end."""
    found = row["curves"]
    return found | {"knn/top1": _with_ends(found.get("knn/top1"), row["summary"])}


def _with_ends(curve: Sequence | None, summary: Mapping[str, Any]) -> list[list]:
    """kNN over time between that of the untrained network and that of the end."""
    steps, values = curve or ([], [])
    knn, last = summary["knn"], summary["steps"]
    inside = [(s, v) for s, v in zip(steps, values, strict=True) if s < last]
    all_points = [(0, knn["untrained"]), *inside, (last, knn["trained"])]
    return [list(column) for column in zip(*all_points, strict=True)]


def _run(arm: str, row: Mapping[str, Any], found: Mapping[str, Any]) -> Run:
    steps, epochs = found["epoch"]
    per_epoch = steps[-1] / epochs[-1]
    if "collapse/negative_cosine" in found:
        at, cosines = found["collapse/negative_cosine"]
        found = {**found, APART: [at, [c if c is None else 1 - c for c in cosines]]}
    return Run(arm, found, per_epoch, row["command"], row["environment"])


def value_at(run: Run, metric: str, epoch: float | None) -> float | None:
    """The value nearest to the end of an epoch, the later of two; None further than
    half an epoch off.
    """
    steps, values = run.curves.get(metric) or ([], [])
    known = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
    if not known:
        return None
    if epoch is None:
        return known[-1][1]
    wanted = epoch * run.per_epoch
    trained = [pair for pair in known if pair[0] > 0]
    if not trained:
        return None
    step, value = min(trained, key=lambda pair: (abs(pair[0] - wanted), -pair[0]))
    return value if abs(step - wanted) <= run.per_epoch / 2 + 1 else None
