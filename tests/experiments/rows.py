"""Rows of results.jsonl as runs would have left them, with figures of one's choice."""

import dataclasses

from byol_bnfree.config import TrainConfig
from byol_bnfree.files import strict
from experiments.comparison import Comparison, compare
from experiments.grid import Experiment, load_experiment, make_runs
from experiments.results import Row
from experiments.scales import SCALES

STEPS = [1, 10, 20, 30, 40]


def row(run, linear: float | None, verdict: str = "healthy", **fields) -> Row:
    """Of a run with a linear accuracy, a fraction; None: it diverged."""
    summary = {
        "knn": {"untrained": 0.25, "trained": linear},
        "linear": {"untrained": 0.27, "trained": linear},
        "collapse": {
            "verdict": verdict,
            "first_drifting": None if verdict == "healthy" else 10,
            "first_collapsed": 20 if verdict == "collapsed" else None,
        },
        "peak_gib": {"host": 1.5, "device": None},
    }
    curves = {
        "epoch": [STEPS, [0.1, 1.0, 2.0, 3.0, 4.0]],
        "train/loss": [STEPS, [4.0, 3.0, None, 1.0, 0.5]],
        "probe/top1": [STEPS, [0.1, 0.2, 0.25, 0.24, 0.12]],
        "collapse/feature_std": [STEPS, [0.3, 0.2, 0.1, 0.2, 0.3]],
    }
    layer = {"rms": 1.0, "between_images": 0.5, "kernel": 2.0, "gradient": 0.1}
    layers = {"encoder/conv1": layer, "projector/fc1": layer}
    return {
        **{k: getattr(run, k) for k in ("experiment", "scale", "arm", "seed")},
        "settings": run.settings,
        "time": "2026-01-02T03:04:05+00:00",
        "command": "python -m byol_bnfree.train <&>",
        "summary": None if linear is None else summary,
        "step_seconds": 0.5,
        "wall_seconds": 200.0,
        "resumed": False,
        "final": {"step": 40, "knn/top1": 0.2},
        "curves": curves,
        "layers": {"untrained": layers, "trained": layers},
        "config": strict(dataclasses.asdict(TrainConfig())),
        "environment": {"commit": "c" * 40, "cpu": "a cpu", "cores": 2},
    } | fields


def comparison(name: str, figures: dict[str, list], **fields) -> Comparison:
    """Of an experiment at cpu scale: arm to the linear accuracy of seeds 0, 1, ..."""
    experiment = load_experiment(name)
    return compare(experiment, SCALES["cpu"], rows_of(experiment, figures, **fields))


def rows_of(experiment: Experiment, figures: dict[str, list], **fields) -> list[Row]:
    """A row for each figure; a string is the verdict of a run at 0.22."""
    runs = make_runs(experiment, SCALES["cpu"], range(3))
    by_name = {(run.arm, run.seed): run for run in runs}
    return [
        row(by_name[arm, seed], 0.22, value, **fields)
        if isinstance(value, str)
        else row(by_name[arm, seed], value, **fields)
        for arm, values in figures.items()
        for seed, value in enumerate(values)
    ]
