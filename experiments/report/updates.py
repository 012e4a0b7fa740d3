"""Draws the size of updates: |update| / |weight|, layer by layer."""

import itertools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.colors import LogNorm

from experiments.comparison import Comparison
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

PREFIX = "update_ratio/"
KINDS = ("kernel", "bias")
Ratios = Mapping[str, tuple[list[int], list[float]]]


def updates(comparison: Comparison) -> list[Figure]:
    """Draw a picture for each kind of weight: medians over layers, a line per arm."""
    found = [_medians(comparison, kind) for kind in KINDS]
    return [figure for figure in found if figure is not None]


def _medians(comparison: Comparison, kind: str) -> Figure | None:
    color, ends = colors(comparison), []
    with styled():
        axis = labelled_axis(list(comparison.results), 2.9)
        for name, result in comparison.results.items():
            for row in result.rows.values():
                ratios = ratios_of(row, kind, comparison.unused(name))
                if not ratios:
                    continue
                steps, table = _table(ratios)
                middle = np.ma.median(np.ma.masked_invalid(table), axis=0)
                middle = middle.filled(np.nan)
                axis.plot(steps, middle, color=color[name], lw=1)
                place = steps[-1], float(middle[-1])
                ends.append(End(name, *place, color[name], family_of(result.arm)))
        if not ends:
            return None
        log_axis(axis)
        axis.set_xlabel("step")
        label_ends(axis, list({end.name: end for end in ends}.values()))
        caption = f"Update over weight, {kind}: median over the layers"
        return Figure(f"updates_{kind}", caption, svg(axis.figure))


def updates_of_arm(comparison: Comparison, name: str) -> Figure | None:
    """Draw every layer of the first seed over the steps, a map for each kind."""
    row = next(iter(comparison.results[name].rows.values()))
    unused = comparison.unused(name)
    tables = {kind: ratios_of(row, kind, unused) for kind in KINDS}
    tables = {kind: ratios for kind, ratios in tables.items() if ratios}
    if not tables:
        return None
    drawn = {kind: (list(ratios), *_table(ratios)) for kind, ratios in tables.items()}
    values = np.concatenate([table.ravel() for _, _, table in drawn.values()])
    known = values[np.isfinite(values) & (values > 0)]
    norm = LogNorm(*np.percentile(known, (1, 99))) if len(known) else None
    most = max(len(names) for names, _, _ in drawn.values())
    with styled():
        height = 0.11 * most + 0.7
        figure = canvas(5.2 * len(drawn) + 0.6, height)
        figure.set_layout_engine("constrained")
        axes = figure.subplots(1, len(drawn), squeeze=False)[0]
        for axis, (kind, parts) in zip(axes, drawn.items(), strict=True):
            picture = _boxes(axis, *parts, norm)
            axis.set_title(kind, fontsize=8)
        figure.colorbar(picture, ax=axes, label="update over weight, a step")
        caption = f"{name}: update over weight of each layer, first seed"
        return Figure(f"updates_arm_{name}", caption, svg(figure))


def _boxes(axis: Any, names: list[str], steps: list[int], table: Any, norm: Any) -> Any:
    """Draw layers downwards from the image, and steps to the right."""
    axis.grid(False)
    shown = np.where(table > 0, table, np.nan)
    picture = axis.imshow(
        shown, norm=norm, aspect="auto", interpolation="nearest", cmap="viridis"
    )
    axis.set_yticks(range(len(names)), names, fontsize=5)
    every = max(1, len(steps) // 5)
    axis.set_xticks(range(len(steps))[::every], steps[::every], fontsize=7)
    axis.set_xlabel("step")
    return picture


def ratios_of(row: Mapping[str, Any], kind: str, unused: Collection[str]) -> Ratios:
    """Map each layer to its steps and ratios, in the order of the layers if known.

    Layers of `unused` parts of the network are left out: only decay moves them.
    """
    known = list(((row["layers"] or {}).get("trained") or {}).keys())
    found = {
        metric.removeprefix(PREFIX).removesuffix(f"/{kind}"): curve
        for metric, curve in row["curves"].items()
        if metric.startswith(PREFIX)
        and metric.endswith(f"/{kind}")
        and metric.split("/")[1] not in unused
    }
    order = {name: place for place, name in enumerate(known)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def _table(ratios: Ratios) -> tuple[list[int], Float[np.ndarray, "layers steps"]]:
    """Return all steps of any layer, and a table with NaN where a layer has none."""
    steps = sorted(set(itertools.chain.from_iterable(s for s, _ in ratios.values())))
    column = {step: index for index, step in enumerate(steps)}
    table = np.full((len(ratios), len(steps)), np.nan)
    for line, (own, values) in enumerate(ratios.values()):
        for step, value in zip(own, values, strict=True):
            table[line, column[step]] = np.nan if value is None else value
    return steps, table
