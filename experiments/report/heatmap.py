"""Linear accuracy over two settings: a map for each family, and the paper's."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.comparison import Comparison
from experiments.report.blocks import Figure
from experiments.report.style import canvas, styled, svg

Cells = Mapping[tuple[str, str], float]


def maps(comparison: Comparison) -> list[Figure]:
    """The figure, with a map for each family that has a cell with a run."""
    found = {
        name: {r.arm.cell: r.mean for r in results if r.arm.cell and r.mean is not None}
        for name, results in comparison.families().items()
    }
    found = {f"{name}, here": cells for name, cells in found.items() if cells}
    if not found:
        return []
    arms = [arm for arm in comparison.arms if arm.cell]
    paper = {arm.cell: arm.paper for arm in arms if arm.paper is not None}
    if paper:
        found["the paper"] = paper
    rows, columns = (list(dict.fromkeys(arm.cell[i] for arm in arms)) for i in (0, 1))
    rows, columns = sorted(rows, key=float), sorted(columns, key=float)
    caption = (
        "Linear top-1, %, over two settings. White cells were not run. Each map has "
        "colours of its own."
    )
    with styled():
        width = 0.55 * len(columns) + 1.1
        figure = canvas(width * len(found), 0.42 * len(rows) + 1.1)
        figure.set_layout_engine("constrained")
        axes = figure.subplots(1, len(found), squeeze=False)[0]
        for axis, (title, cells) in zip(axes, found.items(), strict=True):
            _map(axis, rows, columns, cells)
            axis.set_title(title, fontsize=8)
            axis.set_xlabel(comparison.experiment.cell_axes[1], fontsize=7)
        axes[0].set_ylabel(comparison.experiment.cell_axes[0], fontsize=7)
        return [Figure("map", caption, svg(figure))]


def _map(axis: Any, rows: list[str], columns: list[str], cells: Cells) -> None:
    """Draw one box per cell, with its accuracy."""
    table = np.array(
        [[cells.get((row, col), np.nan) for col in columns] for row in rows]
    )
    axis.imshow(table, aspect="auto", cmap="viridis")
    axis.grid(False)
    axis.set_xticks(range(len(columns)), columns, fontsize=7)
    axis.set_yticks(range(len(rows)), rows, fontsize=7)
    middle = (np.nanmin(table) + np.nanmax(table)) / 2
    for (i, j), value in np.ndenumerate(table):
        if np.isfinite(value):
            color = "black" if value > middle else "white"
            text = f"{value:.1f}"
            axis.text(j, i, text, ha="center", va="center", fontsize=6, color=color)
