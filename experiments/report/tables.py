"""The tables of a report, as text."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping

from experiments.collapse import last_knn, outcome, probe_says, warnings
from experiments.comparison import Comparison, Result
from experiments.decisions import MARGIN, in_cell
from experiments.grid import Arm
from experiments.pages.blocks import Table
from experiments.pages.style import family_of
from experiments.report.conditions import machine
from experiments.results import Row
from experiments.seeds import Spread, spread, verdict
from experiments.verdicts import row_verdicts

DEVIATION = "± is the sample standard deviation over the seeds."
FEW_ARMS = 8  # that are named one by one
STOPPED = "A kNN with a step is the last one of a run that was stopped as collapsed."


def accuracy_table(comparison: Comparison) -> Table:
    """Write one line per arm. The papers' figures have their own column, because they
    belong to another task.

    Results come first, because a phone shows the first columns.
    """
    reference = comparison.reference
    head = (
        "arm",
        "linear, %",
        "kNN, %",
        f"linear - {reference}, points [95 %]",
        f"verdict against {reference} (margin {MARGIN:g} point)",
        "untrained linear, %",
        "untrained kNN, %",
        "paper, %",
        "seeds",
        "outcome",
    )
    rows = [
        (
            result.arm.name,
            *_accuracies(result, "trained"),
            *_against(comparison, result.arm.name),
            *_accuracies(result, "untrained"),
            paper_text(result.arm),
            str(len(result.rows)),
            result.counted,
        )
        for result in comparison.results.values()
    ]
    return Table(head, rows, words=(0, 4, 9))


def paper_text(arm: Arm) -> str:
    """Return the paper's figure of a row: percent, `fails`, or nothing."""
    if arm.paper_fails:
        return "fails"
    return "" if arm.paper is None else percent_text(arm.paper)


def percent_text(figure: float) -> str:
    """Write an accuracy in percent. The papers have rows below 0.1."""
    return f"{figure:.1f}" if figure >= 0.1 else f"{figure:g}"


def _accuracies(result: Result, network: str) -> tuple[str, str]:
    total = len(result.rows)
    linear, knn = (
        _spread(spread(result.percent(name, network)), total)
        for name in ("linear", "knn")
    )
    if network == "trained":
        knn = ", ".join([knn] * bool(knn) + _stopped_knn(result))
    return linear, knn


def _stopped_knn(result: Result) -> list[str]:
    found = map(last_knn, result.rows.values())
    return [f"{100 * known[1]:.1f} at step {known[0]}" for known in found if known]


def stopped_note(comparison: Comparison) -> str:
    """Explain the kNN of stopped runs; empty if the table has none."""
    return STOPPED if any(map(last_knn, comparison.rows)) else ""


def arms_note(comparison: Comparison) -> str:
    """Say which arms have no run; empty if all have one. Many are counted by family."""
    arms, found = comparison.arms, comparison.results
    missing = [arm for arm in arms if arm.name not in found]
    if not missing:
        return ""
    which = [arm.name for arm in missing]
    if len(missing) > FEW_ARMS:
        counts = Counter(map(family_of, missing))
        which = [f"{count} of {family}" for family, count in counts.items()]
    were = "was" if len(found) == 1 else "were"
    return (
        f"{len(found)} of the {len(arms)} arms {were} run. "
        f"Without a run: {', '.join(which)}."
    )


def _against(comparison: Comparison, name: str) -> tuple[str, str]:
    """Return the difference to the reference arm, and its verdict.

    An arm that has no accuracy because all of its runs failed is `failed`.
    """
    difference = comparison.difference(name, comparison.reference)
    if name == comparison.reference:
        return "", ""
    if difference is None:
        result = comparison.results[name]
        if result.mean is not None:
            return "", ""
        return "", "failed" if result.agreed is False else "not decided yet"
    return in_cell(difference), verdict(difference, MARGIN)


def verdict_table(comparison: Comparison) -> Table | None:
    """Return a line for each row of the paper that was run; None without any."""
    rows = [
        (row.arm.name, paper_text(row.arm), row.word, row.why)
        for row in row_verdicts(comparison)
    ]
    head = ("row", "paper, %", "here", "because")
    return Table(head, rows, words=(0, 2, 3)) if rows else None


def cost_table(comparison: Comparison) -> Table:
    """List step time and memory of every arm, as medians over its runs."""
    head = (
        "arm",
        "step, ms",
        "images/s",
        "peak memory, GiB",
        "whole run, minutes",
        "load average",
    )
    rows = []
    places = [machine(row["environment"] or {}) for row in comparison.rows]
    several = len(set(places)) > 1
    for result in comparison.results.values():
        runs = list(result.rows.values())
        step = _median(row["step_seconds"] for row in runs)
        batch = runs[0]["config"]["batch_size"]
        peak = _median(_peak(row) for row in runs)
        whole = _median(row["wall_seconds"] for row in runs if not row["resumed"])
        load = _median(row.get("load_average") for row in runs)
        rows.append(
            (
                result.arm.name,
                _number(step and 1000 * step, 0),
                _number(step and batch / step, 0),
                _number(peak, 2),
                _number(whole and whole / 60, 1),
                _number(load, 1),
                *([_machines(runs)] if several else []),
            )
        )
    if not several:
        return Table(head, rows)
    return Table((*head, "machines"), rows, words=(0, len(head)))


def _machines(runs: Iterable[Row]) -> str:
    """Name the machines of an arm. Times of different machines are not comparable."""
    found = dict.fromkeys(machine(row["environment"] or {}) for row in runs)
    return " ".join(found)


def collapse_table(comparison: Comparison) -> Table | None:
    """List runs that collapsed, drifted or diverged; None if none did."""
    rows = []
    for result in comparison.results.values():
        for seed, row in result.rows.items():
            seen = warnings(row)
            if outcome(row) not in ("collapsed", "diverged") and not any(seen.values()):
                continue
            rows.append(
                (
                    result.arm.name,
                    str(seed),
                    outcome(row),
                    _step(seen["drifting"]),
                    _step(seen["collapsed"]),
                    probe_says(row),
                    _final(row),
                )
            )
    head = (
        "arm",
        "seed",
        "outcome",
        "measures: drifting from step",
        "collapsed from step",
        "probe",
        "measures at the end",
    )
    return Table(head, rows, words=range(len(head))) if rows else None


def _final(row: Mapping) -> str:
    """The last of each curve: a run's last row may be of kNN alone."""
    names = ("feature_std", "negative_cosine", "centered_rank")
    curves = {name: row["curves"].get(f"collapse/{name}") for name in names}
    last = {name: curve[1][-1] for name, curve in curves.items() if curve}
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.4g}"
        for name, value in last.items()
        if value is not None
    )


def _peak(row: Mapping) -> float | None:
    """Peak memory; of the device where it is counted."""
    peak = (row["summary"] or {}).get("peak_gib", {})
    return peak.get("device") or peak.get("host")


def _spread(value: Spread | None, total: int) -> str:
    """Return mean and deviation, and how many of the runs have a figure if not all."""
    if value is None:
        return ""
    deviation = "" if value.std is None else f" ± {value.std:.1f}"
    part = f" ({value.n} of {total})" if value.n < total else ""
    return f"{value.mean:.1f}{deviation}{part}"


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _step(value: int | None) -> str:
    return "-" if value is None else str(value)
