"""The style of the pictures: one colour a family, names at the ends of lines.

Made without pyplot, which holds global state. Text stays text in the SVG.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.ticker import LogFormatter

from experiments.comparison import Comparison
from experiments.grid import Arm

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "byol_bnfree",  # the same figures give the same file
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titley": 1.0,  # else matplotlib measures every label to place a title
}
# The same in all reports; longer names first, as gn begins gn_ws. They also differ for
# people who do not tell red from green.
NORM_COLORS = {
    "gn_ws": "#d95f02",
    "bn": "#1f6fb4",
    "gn": "#009e73",
    "ln": "#cc79a7",
    "ws": "#5b3a29",
    "none": "#5f6368",
}
OTHER_COLORS = ("#c2185b", "#00838f", "#9e9d24", "#37474f")
LABEL_SIZE = 7  # points
INK = "#222222"  # of names: the light shades of lines cannot be read as letters
TOP = 0.25  # inches above an axis
MOST_LABELS = 16  # names that fit beside a picture


class End(NamedTuple):
    """The end of a line, and its name."""

    name: str
    x: float
    y: float
    color: Any
    family: str


def family_of(arm: Arm) -> str:
    """The arms that share a colour: those of a norm, which the name begins with."""
    for norm in NORM_COLORS:
        if arm.name == norm or arm.name.startswith((f"{norm}-", f"{norm}_")):
            return norm
    return arm.family or arm.name


def colors(comparison: Comparison) -> dict[str, Any]:
    """A hue for each family, and shades of it from dark to light for its arms."""
    families: dict[str, list[str]] = {}
    for arm in comparison.arms:
        if arm.name in comparison.results:
            families.setdefault(family_of(arm), []).append(arm.name)
    return _shades(families)


def curve_colors(comparison: Comparison) -> dict[str, Any]:
    """A hue for the curves of each norm, and shades of it from dark to light."""
    families: dict[str, list[str]] = {}
    for name, results in comparison.families().items():
        families.setdefault(family_of(results[0].arm), []).append(name)
    return _shades(families)


def _shades(families: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    others = [family for family in families if family not in NORM_COLORS]
    hues = dict(zip(others, OTHER_COLORS * len(others), strict=False)) | NORM_COLORS
    return {
        name: _shade(hues[family], i, len(names))
        for family, names in families.items()
        for i, name in enumerate(names)
    }


def _shade(hue: str, index: int, count: int) -> Any:
    """The hue itself where it is alone; else from a third darker to half white."""
    rgb = np.array(to_rgb(hue))
    if count == 1:
        return tuple(rgb)
    at = index / (count - 1)
    mixed = rgb * (0.67 + 0.33 * min(1, 2 * at))
    return tuple(mixed + (1 - mixed) * max(0, at - 0.5))


def label_ends(axis: Any, ends: Sequence[End]) -> None:
    """Write each name at the height of its line's end, moved so that none overlap.

    Before each name stands a dash in the colour of its line.
    """
    axis.set(xlim=axis.get_xlim(), ylim=axis.get_ylim())  # so that they stay
    to_axes = axis.transData + axis.transAxes.inverted()
    at = {end.name: to_axes.transform((end.x, end.y)) for end in ends}
    # NaN has no height, and 0 has none on a logarithmic axis.
    ends = labelled([end for end in ends if np.isfinite(at[end.name][1])])
    inches = axis.get_position().height * axis.figure.get_figheight()
    gap = 1.25 * LABEL_SIZE / 72 / inches
    ends = sorted(ends, key=lambda end: at[end.name][1])
    for end, y in zip(ends, _apart([at[e.name][1] for e in ends], gap), strict=True):
        style = {"clip_on": False, "transform": axis.transAxes}
        x = min(at[end.name][0], 1.0)
        # A long line in the colour of the curve would look like its continuation.
        line = {"color": "gray", "ls": ":"} if x < 0.95 else {"color": end.color}
        axis.plot([x, 1.015], [at[end.name][1], y], lw=0.5, alpha=0.7, **line, **style)
        axis.plot([1.015, 1.03], [y, y], lw=2, color=end.color, **style)
        words = {"fontsize": LABEL_SIZE, "va": "center", "color": INK}
        axis.text(1.037, y, end.name, **words, **style)


def labelled(ends: Sequence[End]) -> list[End]:
    """All, or where there are too many the highest and the lowest of each family."""
    if len(ends) <= MOST_LABELS:
        return list(ends)
    families: dict[str, list[End]] = {}
    for end in ends:
        families.setdefault(end.family, []).append(end)
    extremes = {
        pick(members, key=lambda end: end.y)
        for members in families.values()
        for pick in (min, max)
    }
    return list(extremes)


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """Sorted heights, moved as little as keeps them `gap` apart and inside the axis."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap) if placed else max(height, 0.0))
    ceiling = 1.0
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    return placed


def margin(names: Sequence[str]) -> float:
    """Inches that the longest name takes to the right of an axis."""
    return 0.27 + 0.062 * max((len(name) for name in names), default=0)


def canvas(width: float, height: float) -> Any:
    """A figure of so many inches."""
    from matplotlib.figure import Figure as Canvas

    return Canvas(figsize=(width, height))


def labelled_axis(names: Sequence[str], height: float, bottom: float = 0.45) -> Any:
    """An axis 4 inches wide with room for names on its right; inches."""
    left, width = 0.6, 4.0
    total = left + width + margin(names)
    figure = canvas(total, height)
    place = (left / total, bottom / height, width / total)
    return figure.add_axes((*place, 1 - (bottom + TOP) / height))


class PlainNumbers(LogFormatter):
    """Matplotlib's choice of labels on a log axis, written as 0.6, not as 6e-01."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def log_axis(axis: Any) -> None:
    """Powers of ten upwards; labels as plain numbers, which are narrow.

    A line has a gap where a value is 0 or less.
    """
    axis.set_yscale("log", nonpositive="mask")
    for which in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
        which(PlainNumbers(labelOnlyBase=False, minor_thresholds=(1, 0.4)))


def svg(figure: Any) -> bytes:
    """Save the file."""
    file = io.BytesIO()
    metadata: Mapping[str, None] = {"Date": None, "Creator": None}
    figure.savefig(file, format="svg", metadata=metadata)
    return file.getvalue()


def styled() -> Any:
    """A context in which pictures are drawn."""
    return matplotlib.rc_context(STYLE)
