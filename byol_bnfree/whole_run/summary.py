"""The summary.json of a run, and the lines that it prints at its end."""

import time
from pathlib import Path
from typing import Any

from byol_bnfree.data.pipeline import Batches
from byol_bnfree.evaluation.final import Evaluator
from byol_bnfree.settings.norms import part_norms
from byol_bnfree.training.distributed import say
from byol_bnfree.training.environment import peak_memory
from byol_bnfree.training.journal import MUCH_WAITING, Journal
from byol_bnfree.training.program import Program
from byol_bnfree.training.state import TrainState


def summarize(
    program: Program,
    evaluator: Evaluator,
    state: TrainState,
    journal: Journal,
    batches: Batches,
) -> dict[str, Any]:
    """Return the content of summary.json. This evaluates, unless it is skipped."""
    config, watch = program.config, journal.judge.watch
    # Rows of evaluations have no times.
    rows = [row for row in journal.log.rows() if "perf/seconds" in row]
    seconds = sum(row["perf/seconds"] for row in rows)
    nothing = {"untrained": None, "trained": None}
    summary = {
        "norm": config.norm,
        "norms": part_norms(config),
        "seed": config.seed,
        "steps": int(state.step),
        "knn": dict(nothing),
        "linear": dict(nothing),
        "chance": evaluator.chance,
        "collapse": {
            "verdict": watch.verdict.state,
            "reason": watch.verdict.reason,
            "first_drifting": watch.first_drifting,
            "first_collapsed": watch.first_collapsed,
        },
        "images_per_s": _rate(rows),
        "data_wait": _data_wait(rows),
        "seconds": seconds,
        "peak_gib": peak_memory(),
    }
    if config.evaluation.skip or not evaluator.possible:
        return summary
    began = time.perf_counter()
    say("evaluating on the test split, trained and untrained encoder")
    for name, chosen in (
        ("trained", state),
        ("untrained", evaluator.untrained(batches(0))),
    ):
        features = evaluator.features(chosen)
        summary["knn"][name] = evaluator.knn(chosen, features)
        summary["linear"][name] = evaluator.linear(features)
    return summary | {"evaluation_seconds": time.perf_counter() - began}


def _rate(rows: list[dict[str, Any]]) -> float | None:
    """Return images per second without the first step of each process; None if there
    was no other step."""
    steady = [
        (row["perf/seconds"] - row.get("perf/first_step_seconds", 0), rate)
        for row in rows
        if (rate := row["perf/images_per_s"]) is not None
    ]
    seconds = sum(seconds for seconds, _ in steady)
    return (
        sum(seconds * rate for seconds, rate in steady) / seconds if seconds else None
    )


def _data_wait(rows: list[dict[str, Any]]) -> float | None:
    """Return the share of time in which steps waited for pictures. The first row is
    left out, because its steps compiled."""
    later = [row for row in rows if "perf/first_step_seconds" not in row]
    seconds = sum(row["perf/seconds"] for row in later)
    waited = sum(row["perf/seconds"] * row["perf/data_wait"] for row in later)
    return waited / seconds if seconds else None


def conclude(summary: dict[str, Any], workdir: Path) -> None:
    """Print the results, and the paths of all files."""
    if summary["knn"]["trained"] is not None:
        print("test accuracy   untrained   trained   chance")
        for name, title in (("knn", "kNN"), ("linear", "linear")):
            figures = summary[name]
            print(
                f"{title:<14}{100 * figures['untrained']:>9.1f} %"
                f"{100 * figures['trained']:>8.1f} %"
                f"{100 * summary['chance']:>7.1f} %"
            )
    collapse = summary["collapse"]
    reason = f": {collapse['reason']}" if collapse["verdict"] != "healthy" else ""
    print(f"collapse        {collapse['verdict']}{reason}")
    if summary["images_per_s"] is not None:
        waited = summary.get("data_wait") or 0  # earlier versions did not measure it
        share = f", {100 * waited:.0f} % of the time waiting for pictures"
        print(
            f"training        {summary['images_per_s']:.0f} images/s"
            f"{share if waited >= MUCH_WAITING else ''}"
        )
    print(f"work folder     {workdir}")
    made = ("summary.json", "metrics.jsonl", "curves.png", "views.png", "checkpoints/")
    # A full disk may have left out a figure.
    print(" " * 16 + " ".join(name for name in made if (workdir / name).exists()))
