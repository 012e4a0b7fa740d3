"""The file results.jsonl: one line per run. A report needs nothing else."""

import datetime
import statistics
from pathlib import Path
from typing import Any

from byol_bnfree.errors import InputError
from byol_bnfree.files import read_json, read_rows, strict
from experiments.grid import Run

Row = dict[str, Any]
OF_EVERY_RUN = ("experiment", "scale", "arm", "seed", "settings", "time")
POINTS = 80  # largest number of points of a curve
FEW_POINTS = 20  # the same for curves that exist for every layer
DIGITS = 5  # digits of each number in curves and layers


def make_row(run: Run, workdir: Path, command: str, **measured: Any) -> Row:
    """Collect everything about an ended run; `summary` is None if it broke off."""
    rows = read_rows(workdir / "metrics.jsonl")
    return strict(
        {
            "experiment": run.experiment,
            "scale": run.scale,
            "arm": run.arm,
            "seed": run.seed,
            "settings": run.settings,
            "command": command,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "summary": read_json(workdir / "summary.json"),
            "step_seconds": _step_seconds(rows),
            "final": {k: v for row in rows for k, v in row.items()},  # last of each
            **measured,
            "curves": rounded(curves(rows)),
            "config": read_json(workdir / "config.json"),
            "environment": read_json(workdir / "environment.json"),
            "earlier": _earlier(workdir),
        }
    )


def _earlier(workdir: Path) -> list[Row]:
    """Return the environments of a resumed run's earlier parts, the oldest first."""
    files = {
        int(file.name.split(".")[1]): file
        for file in workdir.glob("environment.*.json")
        if file.name.split(".")[1].isdecimal()
    }
    return [
        {"until_step": step} | (read_json(file) or {})
        for step, file in sorted(files.items())
    ]


def environments(row: Row) -> list[Row]:
    """Return the environments of all parts of a run. Old rows have only the last."""
    return [*row.get("earlier", ()), row["environment"] or {}]


def read_results(path: Path) -> list[Row]:
    """Return the rows of a results.jsonl; [] if there is no file.

    Raises:
      InputError: for a line that is not the row of a run.
    """
    rows = read_rows(path)
    for number, row in enumerate(rows, 1):
        known = row if isinstance(row, dict) else {}
        lacking = [name for name in OF_EVERY_RUN if name not in known]
        if lacking:
            raise InputError(
                f"line {number} of {path} has no {', '.join(lacking)}, so it is not "
                f"the row of a run; repair or remove it."
            )
    return rows


def read_parts(workdir: Path, *names: str) -> dict[str, Row]:
    """Return the JSON files with these names of a finished run.

    Raises:
      InputError: if one is missing or damaged.
    """
    found = {name: read_json(workdir / f"{name}.json") for name in names}
    for name, part in found.items():
        if part is None:
            raise InputError(f"{workdir / name}.json is missing; give a finished run.")
    return found


def moment(row: Row) -> datetime.datetime:
    """Return when a row was made. Files may have been joined in any order."""
    return datetime.datetime.fromisoformat(row["time"])


def curves(rows: list[Row]) -> dict[str, list[list[float | None]]]:
    """Map every metric to its [steps, values], thinned for plotting.

    The first and the last value stay.
    """
    names = dict.fromkeys(name for row in rows for name in row if name != "step")
    found = {}
    for name in names:
        having = [row for row in rows if name in row]
        most = FEW_POINTS if name.startswith("update_ratio/") else POINTS
        every = max(1, -(-(len(having) - 1) // (most - 1)))
        chosen = [*having[:-1:every], having[-1]]
        found[name] = [[row[key] for row in chosen] for key in ("step", name)]
    return found


def rounded(value: Any) -> Any:
    """Round numbers in lists and dicts to few digits, because git stores the lines."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _step_seconds(rows: list[Row]) -> float | None:
    """Return the median over the rows of the log but the first, which compiles."""
    timed = [row for row in rows if "perf/seconds" in row]
    pairs = zip(timed, timed[1:], strict=False)
    times = [b["perf/seconds"] / (b["step"] - a["step"]) for a, b in pairs]
    return statistics.median(times) if times else None
