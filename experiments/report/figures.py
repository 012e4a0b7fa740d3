"""Draws the accuracies of a report."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.comparison import Comparison, Result
from experiments.pages.blocks import Figure
from experiments.pages.style import (
    End,
    canvas,
    colors,
    curve_colors,
    label_ends,
    margin,
    styled,
    svg,
)


def accuracy(comparison: Comparison) -> Figure:
    """Draw a dot per run, a line at the mean, and hollow dots for untrained ones."""
    results, color = list(comparison.results.values()), colors(comparison)
    with styled():
        height = 0.34 * len(results) + 0.8
        figure = canvas(6.4, height)
        left = 0.05 + 0.0105 * max(len(name) for name in comparison.results)
        axis = figure.add_axes((left, 0.55 / height, 0.97 - left, 1 - 0.65 / height))
        for y, result in enumerate(results):
            trained = list(result.percent("linear").values())
            untrained = list(result.percent("linear", "untrained").values())
            axis.plot(untrained, [y] * len(untrained), "o", mfc="none", mec="#888")
            axis.plot(trained, [y] * len(trained), "o", color=color[result.arm.name])
            if result.mean is not None:
                axis.plot(result.mean, y, "|", ms=16, color="black")
        axis.set_yticks(range(len(results)), [r.arm.name for r in results])
        axis.set_ylim(len(results) - 0.5, -0.5)  # the first arm on top, none cut off
        axis.set_xlabel("linear top-1, %")
        caption = (
            "Linear accuracy. A dot is a run, a bar the mean of an arm, a hollow dot "
            "the untrained encoder. An arm has no bar if some of its runs have no "
            "accuracy and at most half learned."
        )
        return Figure("accuracy", caption, svg(figure))


def along_axis(comparison: Comparison) -> Figure:
    """Draw linear accuracy along the experiment's axis, above the paper's figures."""
    experiment = comparison.experiment
    theirs = experiment.paper_curves
    here = {arm.x for arm in comparison.arms if arm.x is not None}
    places = sorted(here.union(*theirs.values()))
    at = {x: index for index, x in enumerate(places)}
    with styled():
        families, color = comparison.families(), curve_colors(comparison)
        width = 5.6 + margin([*families, *theirs])
        figure = canvas(width, 5)
        left, wide = 0.77 / width, 4.86 / width
        ours = figure.add_axes((left, 0.57, wide, 0.41))
        paper = figure.add_axes((left, 0.11, wide, 0.41), sharex=ours)
        ends = [
            _draw_family(ours, name, results, at, color[name])
            for name, results in families.items()
        ]
        marks = zip(theirs.items(), ("s-", "o--"), strict=False)
        named = [_draw_paper(paper, *curve, at, mark) for curve, mark in marks]
        ours.set_ylabel("here: linear top-1, %")
        paper.set_ylabel("paper: top-1, %")
        paper.set_xticks(range(len(places)), [f"{x:g}" for x in places])
        paper.set_xlabel(experiment.axis)
        label_ends(ours, [end for end in ends if end is not None])
        label_ends(paper, named if len(named) > 1 else [])
        caption = (
            "Above, linear accuracy here: a dot is a run, a line joins the means, and "
            "a cross is below runs without an accuracy. Below, the paper's figures."
        )
        return Figure("along_axis", caption, svg(figure))


def _draw_family(
    axis: Any,
    name: str,
    results: Sequence[Result],
    at: Mapping[float, int],
    color: Any,
) -> End | None:
    """Draw each run, and one line through the means; return its end."""
    placed = [r for r in results if r.arm.x is not None]
    for result in placed:
        dots = list(result.percent("linear").values())
        axis.plot([at[result.arm.x]] * len(dots), dots, "o", ms=4, color=color)
        if result.lost:
            edge = axis.get_xaxis_transform()  # y is a share of the axis
            axis.plot(
                at[result.arm.x], 0.03, "x", ms=6, color=color, transform=edge, zorder=3
            )
    placed.sort(key=lambda r: r.arm.x)
    known = [r for r in placed if r.mean is not None]
    if not known:
        return None
    # NaN breaks the line where an arm has no mean.
    means = [math.nan if r.mean is None else r.mean for r in placed]
    axis.plot([at[r.arm.x] for r in placed], means, "-", color=color)
    return End(name, at[known[-1].arm.x], known[-1].mean, color, name)


def _draw_paper(
    axis: Any,
    name: str,
    curve: Mapping[float, float],
    at: Mapping[float, int],
    mark: str,
) -> End:
    """Draw one of the paper's curves; return its end."""
    xs, ys = zip(*sorted((at[x], y) for x, y in curve.items()), strict=True)
    axis.plot(xs, ys, mark, ms=4, color="black")
    return End(name, xs[-1], ys[-1], "black", name)
