"""Curves of the runs and pictures of their layers; one colour an arm."""

import textwrap
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from experiments.comparison import Comparison, Result
from experiments.pages.blocks import Figure
from experiments.pages.style import (
    End,
    canvas,
    colors,
    family_of,
    label_ends,
    labelled_axis,
    log_axis,
    styled,
    svg,
)

CURVES = {
    "train/loss": "loss (byol: 2 - 2 cos, both orders)",
    "train/projection_norm": "length of projections",
    "knn/top1": "kNN, top-1 on the evaluation split, %",
    "probe/top1": "online probe, top-1 on training views, %",
    "collapse/feature_std": "spread of representations (1: even, 0: one point)",
    "collapse/negative_cosine": "cosine of other images' projections",
    "collapse/centered_rank": "effective rank of centred representations",
}
LAYERS = {
    "unit_between_images": "share of unit vectors that varies between images",
    "between_images": "share of outputs that varies between images, by length",
    "rms": "size of outputs (root mean square)",
    "gradient": "norm of the gradient to the kernel",
}
SHARES = ("unit_between_images", "between_images")
LOGARITHMIC = ("train/loss", "train/projection_norm")
"""Without batch statistics, or without a normalized loss, they span decades."""
PERCENT = ("probe/top1", "knn/top1")


def curves(comparison: Comparison) -> list[Figure]:
    """Draw a picture for each metric that a run has. Each run is a line."""
    return [
        _curve(comparison, metric, title)
        for metric, title in CURVES.items()
        if any(_has(result, metric) for result in comparison.results.values())
    ]


def _has(result: Result, metric: str) -> bool:
    curves = (row["curves"].get(metric) for row in result.rows.values())
    return any(v is not None for curve in curves if curve for v in curve[1])


def _curve(comparison: Comparison, metric: str, title: str) -> Figure:
    color = colors(comparison)
    with styled():
        axis = labelled_axis(list(comparison.results), 2.9)
        ends = []
        for name, result in comparison.results.items():
            _draw_runs(axis, result, metric, color[name])
            x, y = _last_point(result, metric)
            ends.append(End(name, x, y, color[name], family_of(result.arm)))
        if metric in LOGARITHMIC:
            log_axis(axis)
        axis.set_xlabel("step")
        label_ends(axis, ends)
        return Figure(metric.replace("/", "_"), title, svg(axis.figure))


def _last_point(result: Result, metric: str) -> tuple[float, float]:
    """Return the last step of all seeds, and the mean of their last values.

    Both are NaN without any value.
    """
    last, least = [], 0 if metric in LOGARITHMIC else -np.inf
    for row in result.rows.values():
        steps, values = _points(row["curves"].get(metric), metric)
        known = [(s, v) for s, v in zip(steps, values, strict=True) if v > least]
        last += known[-1:]
    if not last:
        return np.nan, np.nan
    steps, values = zip(*last, strict=True)
    return max(steps), float(np.mean(values))


def curves_of_arm(result: Result) -> Figure:
    """Draw the curves of one arm side by side. Each seed is a line."""
    with styled():
        figure = canvas(12, 2.5)
        shown = {m: title for m, title in CURVES.items() if _has(result, m)}
        for index, (metric, title) in enumerate(shown.items()):
            left = (index + 0.22) / len(shown)
            axis = figure.add_axes((left, 0.18, 0.75 / len(shown), 0.68))
            _draw_runs(axis, result, metric, None)
            if metric in LOGARITHMIC and _has(result, metric):
                log_axis(axis)
            short = textwrap.fill(title.split(" (")[0].split(",")[0], 24)
            axis.set_title(short, fontsize=7)
            axis.tick_params(which="both", labelsize=7)
        name = result.arm.name
        return Figure(f"arm_{name}", f"{name} over the steps", svg(figure))


def _draw_runs(axis: Any, result: Result, metric: str, color: Any) -> None:
    for row in result.rows.values():
        points = _points(row["curves"].get(metric), metric)
        style = ".-" if len(points[0]) < 20 else "-"  # a single value is a dot
        axis.plot(*points, style, color=color, lw=1, ms=3)


def _points(curve: Sequence | None, metric: str) -> tuple[Sequence, Sequence]:
    """Return steps and values. None becomes NaN, which leaves a gap."""
    steps, values = curve or ([], [])
    factor = 100 if metric in PERCENT else 1
    return steps, [np.nan if v is None else factor * v for v in values]


def layers(comparison: Comparison) -> list[Figure]:
    """Draw a picture for each measure, over the layers from image to prediction."""
    found = [_layer_lines(comparison, m, title) for m, title in LAYERS.items()]
    return [figure for figure in found if figure is not None]


def _layer_lines(comparison: Comparison, measure: str, title: str) -> Figure | None:
    color, ends = colors(comparison), []
    states = {"untrained": ":", "trained": "-"}
    found = {
        (name, state): of_layers(result, state, measure, comparison.unused(name))
        for name, result in comparison.results.items()
        for state in states
    }
    names = joined(list(found.values()))
    if not names:
        return None
    place = {layer: index for index, layer in enumerate(names)}
    with styled():
        axis = labelled_axis(list(comparison.results), 3.6, bottom=1.2)
        for (name, state), values in found.items():
            points = sorted((place[layer], value) for layer, value in values.items())
            # A logarithmic axis leaves gaps at 0.
            shown = [xy for xy in points if measure in SHARES or xy[1] > 0]
            if not shown:
                continue
            axis.plot(
                *zip(*points, strict=True), states[state], color=color[name], lw=1.2
            )
            if state == "trained":
                family = family_of(comparison.results[name].arm)
                ends.append(End(name, *shown[-1], color[name], family))
        if measure not in SHARES:
            log_axis(axis)
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
        label_ends(axis, ends)
        caption = f"{title[0].upper()}{title[1:]}; dotted: before training"
        return Figure(f"layers_{measure}", caption, svg(axis.figure))


def joined(lists: Sequence[Iterable[str]]) -> list[str]:
    """Join lists of layers into one, in which each layer stands once.

    The first list gives the order. A new layer of another list stands behind the layer
    that it follows there. So arms may differ in depth, and rows of older versions may
    list a layer in another place.
    """
    names: list[str] = []
    for layers in lists:
        before = 0
        for layer in layers:
            if layer not in names:
                names.insert(before, layer)
            before = names.index(layer) + 1
    return names


def of_layers(
    result: Result, state: str, measure: str, unused: Collection[str]
) -> dict[str, float]:
    """Return means over the seeds, for layers with a kernel, or for all if a share.

    Layers of `unused` parts of the network are left out.
    """
    found: dict[str, list[float]] = {}
    for row in result.rows.values():
        for name, numbers in ((row["layers"] or {}).get(state) or {}).items():
            wanted = "kernel" in numbers or measure == "unit_between_images"
            wanted &= name.split("/")[0] not in unused
            if wanted and numbers.get(measure) is not None:
                short = name.removeprefix("encoder/").replace("_block", ".")
                found.setdefault(short, []).append(numbers[measure])
    return {name: float(np.mean(values)) for name, values in found.items()}
