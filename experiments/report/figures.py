"""The pictures of a report, as SVG whose text stays text."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np

from experiments.comparison import Comparison, Result
from experiments.report.blocks import Figure

CURVES = {
    "train/loss": "BYOL loss (2 - 2 cos, both orders)",
    "probe/top1": "online probe, top-1 on training views, %",
    "knn/top1": "kNN, top-1 on the evaluation split, %",
    "collapse/feature_std": "spread of representations (1: even, 0: one point)",
    "collapse/negative_cosine": "cosine of other images' projections",
    "collapse/centered_rank": "effective rank of centred representations",
}
LAYERS = {
    "rms": "size of outputs (root mean square)",
    "between_images": "share of outputs that differs between images",
    "gradient": "norm of the gradient to the kernel",
}
PERCENT = ("probe/top1", "knn/top1")
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "byol_bnfree",  # the same figures give the same file
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def colors(comparison: Comparison) -> dict[str, Any]:
    """One for each arm, the same in every picture."""
    names = [arm.name for arm in comparison.arms]
    few = len(names) <= 10
    palette = matplotlib.colormaps["tab10" if few else "tab20"].colors
    return {name: palette[i % len(palette)] for i, name in enumerate(names)}


def legend(comparison: Comparison) -> Figure:
    """Which colour is which arm."""
    names, color = list(comparison.results), colors(comparison)
    rows = -(-len(names) // 2)
    with matplotlib.rc_context(STYLE):
        figure = _new(4.2, 0.25 * rows + 0.2)
        handles = [
            matplotlib.lines.Line2D([], [], color=color[name], label=name, lw=3)
            for name in names
        ]
        figure.legend(handles=handles, loc="center", ncols=2, frameon=False)
        return Figure("legend", "Colours of the arms", _svg(figure))


def accuracy(comparison: Comparison) -> Figure:
    """Every run's linear accuracy as a dot, the mean as a line, untrained hollow."""
    results, color = list(comparison.results.values()), colors(comparison)
    with matplotlib.rc_context(STYLE):
        height = 0.34 * len(results) + 0.8
        figure = _new(6.4, height)
        left = 0.05 + 0.0105 * max(len(name) for name in comparison.results)
        axis = figure.add_axes((left, 0.55 / height, 0.97 - left, 1 - 0.65 / height))
        for y, result in enumerate(results):
            trained = list(result.percent("linear").values())
            untrained = list(result.percent("linear", "untrained").values())
            axis.plot(untrained, [y] * len(untrained), "o", mfc="none", mec="#888")
            axis.plot(trained, [y] * len(trained), "o", color=color[result.arm.name])
            if trained:
                axis.plot(np.mean(trained), y, "|", ms=16, color="black")
        axis.set_yticks(range(len(results)), [r.arm.name for r in results])
        axis.invert_yaxis()
        axis.set_xlabel("linear top-1, %")
        caption = "Each run a dot, bar at the mean; hollow: the untrained encoder"
        return Figure("accuracy", caption, _svg(figure))


def along_axis(comparison: Comparison) -> Figure:
    """Linear accuracy over the experiment's axis, above the paper's figures."""
    experiment = comparison.experiment
    theirs = dict(sorted(experiment.paper_curve.items()))
    places = sorted({arm.x for arm in comparison.arms} | theirs.keys())
    at = {x: index for index, x in enumerate(places)}
    with matplotlib.rc_context(STYLE):
        figure = _new(6.4, 5)
        ours = figure.add_axes((0.12, 0.57, 0.85, 0.41))
        paper = figure.add_axes((0.12, 0.11, 0.85, 0.41), sharex=ours)
        for name, results in comparison.families().items():
            known = [r for r in results if r.mean is not None]
            known.sort(key=lambda r: r.arm.x)
            xs = [at[r.arm.x] for r in known]
            (line,) = ours.plot(xs, [r.mean for r in known], "-", label=name)
            for x, result in zip(xs, known, strict=True):
                dots = list(result.percent("linear").values())
                ours.plot([x] * len(dots), dots, "o", ms=4, color=line.get_color())
        paper.plot([at[x] for x in theirs], list(theirs.values()), "s-k", ms=4)
        ours.set_ylabel("here: linear top-1, %")
        ours.legend(frameon=False)
        paper.set_ylabel("paper: top-1, %")
        paper.set_xticks(range(len(places)), [f"{x:g}" for x in places])
        paper.set_xlabel(experiment.axis)
        caption = "Each run a dot, lines through the means; below, the paper's figures"
        return Figure("along_axis", caption, _svg(figure))


def curves(comparison: Comparison) -> list[Figure]:
    """A picture a metric, every run a line in its arm's colour."""
    color, figures = colors(comparison), []
    for metric, title in CURVES.items():
        with matplotlib.rc_context(STYLE):
            figure = _new(4.2, 2.9)
            axis = figure.add_axes((0.12, 0.16, 0.85, 0.8))
            for result in comparison.results.values():
                _draw_runs(axis, result, metric, color[result.arm.name])
            axis.set_xlabel("step")
            name = metric.replace("/", "_")
            figures.append(Figure(name, title, _svg(figure)))
    return figures


def curves_of_arm(result: Result) -> Figure:
    """The same of one arm, side by side; every seed a line."""
    with matplotlib.rc_context(STYLE):
        figure = _new(12, 2.5)
        for index, (metric, title) in enumerate(CURVES.items()):
            left = (index + 0.22) / len(CURVES)
            axis = figure.add_axes((left, 0.18, 0.75 / len(CURVES), 0.68))
            _draw_runs(axis, result, metric, None)
            axis.set_title(title.split(" (")[0].split(",")[0], fontsize=7)
            axis.tick_params(labelsize=7)
        name = result.arm.name
        return Figure(f"arm_{name}", f"{name} over the steps", _svg(figure))


def _draw_runs(axis: Any, result: Result, metric: str, color: Any) -> None:
    for row in result.rows.values():
        axis.plot(*_points(row["curves"].get(metric), metric), color=color, lw=1)


def layers(comparison: Comparison) -> list[Figure]:
    """A picture a measure: layers from image to prediction, a line an arm."""
    color, figures = colors(comparison), []
    for measure, title in LAYERS.items():
        with matplotlib.rc_context(STYLE):
            figure = _new(6.4, 3.6)
            axis = figure.add_axes((0.09, 0.33, 0.89, 0.64))
            names: list[str] = []
            for result in comparison.results.values():
                shown = {"color": color[result.arm.name], "lw": 1.2}
                for state, style in (("untrained", ":"), ("trained", "-")):
                    values = _of_layers(result, state, measure)
                    names = list(values) or names
                    axis.plot(list(values.values()), style, **shown)
            if measure != "between_images":
                axis.set_yscale("log")
            axis.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
            caption = f"{title[0].upper()}{title[1:]}; dotted: before training"
            figures.append(Figure(f"layers_{measure}", caption, _svg(figure)))
    return figures


def _of_layers(result: Result, state: str, measure: str) -> dict[str, float]:
    """Mean over the seeds, of the layers that have a kernel."""
    found: dict[str, list[float]] = {}
    for row in result.rows.values():
        for name, numbers in ((row["layers"] or {}).get(state) or {}).items():
            if "kernel" in numbers and numbers[measure] is not None:
                short = name.removeprefix("encoder/").replace("_block", ".")
                found.setdefault(short, []).append(numbers[measure])
    return {name: float(np.mean(values)) for name, values in found.items()}


def _points(curve: Sequence | None, metric: str) -> tuple[Sequence, Sequence]:
    """Steps and values; None becomes NaN, a gap."""
    steps, values = curve or ([], [])
    factor = 100 if metric in PERCENT else 1
    return steps, [np.nan if v is None else factor * v for v in values]


def _new(width: float, height: float) -> Any:
    """Without pyplot, which holds global state."""
    from matplotlib.figure import Figure as Canvas

    return Canvas(figsize=(width, height))


def _svg(figure: Any) -> bytes:
    file = io.BytesIO()
    metadata: Mapping[str, None] = {"Date": None, "Creator": None}
    figure.savefig(file, format="svg", metadata=metadata)
    return file.getvalue()
