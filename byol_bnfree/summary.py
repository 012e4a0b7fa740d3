"""What a run ends with: summary.json, and the same in a few lines."""

import time
from pathlib import Path
from typing import Any

from byol_bnfree.data.pipeline import Batches
from byol_bnfree.evaluation.final import Evaluator
from byol_bnfree.models.byol import part_norms
from byol_bnfree.training import distributed
from byol_bnfree.training.journal import Journal
from byol_bnfree.training.logs import peak_memory
from byol_bnfree.training.program import Program
from byol_bnfree.training.state import TrainState


def summarize(
    program: Program,
    evaluator: Evaluator,
    state: TrainState,
    journal: Journal,
    batches: Batches,
) -> dict[str, Any]:
    """The content of summary.json; evaluates, unless that is skipped or impossible."""
    config, watch = program.config, journal.watch
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
        "collapse": {
            "verdict": watch.verdict.state,
            "reason": watch.verdict.reason,
            "first_drifting": watch.first_drifting,
            "first_collapsed": watch.first_collapsed,
        },
        "images_per_s": program.total_steps * config.batch_size / max(seconds, 1e-9),
        "seconds": seconds,
        "peak_gib": peak_memory(),
    }
    if config.evaluation.skip or not evaluator.possible:
        return summary
    began = time.perf_counter()
    if distributed.is_primary():
        what = "trained and untrained encoder"
        print(f"evaluating on the test split, {what}", flush=True)
    for name, chosen in (
        ("trained", state),
        ("untrained", evaluator.untrained(batches(0))),
    ):
        features = evaluator.features(chosen)
        summary["knn"][name] = evaluator.knn(chosen, features)
        summary["linear"][name] = evaluator.linear(features)
    return summary | {"evaluation_seconds": time.perf_counter() - began}


def conclude(summary: dict[str, Any], workdir: Path) -> None:
    """Print the figures, and the path of everything."""
    if summary["knn"]["trained"] is not None:
        print("test accuracy   untrained   trained")
        for name, title in (("knn", "kNN"), ("linear", "linear")):
            figures = summary[name]
            print(
                f"{title:<14}{100 * figures['untrained']:>9.1f} %"
                f"{100 * figures['trained']:>8.1f} %"
            )
    collapse = summary["collapse"]
    reason = f": {collapse['reason']}" if collapse["verdict"] != "healthy" else ""
    print(f"collapse        {collapse['verdict']}{reason}")
    print(f"training        {summary['images_per_s']:.0f} images/s")
    for name in ("summary.json", "metrics.jsonl", "curves.png", "views.png"):
        print(f"                {workdir / name}")
    print(f"checkpoints     {workdir / 'checkpoints'}")
