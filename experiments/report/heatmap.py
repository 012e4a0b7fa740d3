"""Linear accuracy over two settings: a map for each family, and the paper's."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import Normalize

from experiments.comparison import Comparison, Result
from experiments.pages.blocks import Figure
from experiments.pages.style import canvas, styled, svg
from experiments.report.tables import percent_text

LEAST_SPAN = 5.0
"""Points between the darkest and the brightest colour. Less is a small difference."""
BRIGHT = 0.43
"""Share of viridis from which black letters have more contrast than white ones."""
Cells = Mapping[tuple[str, str], float | None]
"""Mean accuracy by row and column, percent; None if it has none."""


def maps(comparison: Comparison) -> list[Figure]:
    """The figure, with a map for each family that has a cell with a run."""
    families = comparison.families().items()
    found = {f"{name}, here": _cells(results) for name, results in families}
    found = {title: cells for title, cells in found.items() if cells}
    if not found:
        return []
    arms = [arm for arm in comparison.arms if arm.cell]
    paper = {arm.cell: arm.paper for arm in arms if arm.in_paper}
    ours, theirs = _color_range(found.values()), _color_range([paper])
    if paper:
        found["the paper"] = paper
    rows, columns = (list(dict.fromkeys(arm.cell[i] for arm in arms)) for i in (0, 1))
    rows, columns = sorted(rows, key=float), sorted(columns, key=float)
    experiment = comparison.experiment
    titles = experiment.cell_axes(comparison.scale)
    caption = (
        "Linear top-1, %, over two settings. An x is an arm without a mean: "
        "runs diverged or were stopped, and at most half of all learned. White cells "
        "were not run. All maps of our runs have the same colours, which span 5 points "
        "or more. The paper's map has colours of its own."
    )
    with styled():
        width = 0.55 * len(columns) + 1.1
        figure = canvas(width * len(found), 0.42 * len(rows) + 1.1)
        figure.set_layout_engine("constrained")
        axes = figure.subplots(1, len(found), squeeze=False)[0]
        for axis, (title, cells) in zip(axes, found.items(), strict=True):
            is_paper = cells is paper
            _map(axis, rows, columns, cells, theirs if is_paper else ours)
            axis.set_title(title, fontsize=8)
            own = experiment.paper_columns if is_paper else None
            axis.set_xlabel(own or titles[1], fontsize=7)
        axes[0].set_ylabel(titles[0], fontsize=7)
        return [Figure("map", caption, svg(figure))]


def _cells(results: Sequence[Result]) -> Cells:
    return {
        r.arm.cell: r.mean
        for r in results
        if r.arm.cell and (r.mean is not None or not r.learned)
    }


def _color_range(maps: Iterable[Cells]) -> Normalize:
    """The range from the lowest to the highest of all figures, of `LEAST_SPAN` or more.

    A lone figure is in its middle.
    """
    known = [x for cells in maps for x in cells.values() if x is not None] or [0.0]
    low, high = min(known), max(known)
    more = max(0.0, LEAST_SPAN - (high - low)) / 2
    return Normalize(low - more, high + more)


def _map(
    axis: Any, rows: list[str], columns: list[str], cells: Cells, colors: Normalize
) -> None:
    """Draw one box per cell, with its accuracy or an x."""
    table = np.full((len(rows), len(columns)), np.nan)
    failed = []
    for (row, column), value in cells.items():
        place = rows.index(row), columns.index(column)
        if value is None:
            failed.append(place)
        else:
            table[place] = value
    shown = np.ma.masked_invalid(table)
    axis.imshow(shown, aspect="auto", cmap="viridis", norm=colors)
    axis.grid(False)
    axis.set_xticks(range(len(columns)), columns, fontsize=7)
    axis.set_yticks(range(len(rows)), rows, fontsize=7)
    style = {"ha": "center", "va": "center"}
    for (i, j), value in np.ndenumerate(table):
        if np.isfinite(value):
            color = "black" if colors(value) > BRIGHT else "white"
            axis.text(j, i, percent_text(value), fontsize=6, color=color, **style)
    for i, j in failed:
        axis.text(j, i, "x", fontsize=9, color="black", **style)
