"""Draws the figures of an evaluation, without pyplot's global state."""

import contextlib
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from byol_bnfree.data.geometry import for_display

POINTS = 3000  # points of the embedding; more would hide each other
LONGEST = 22  # letters of a name above a picture
MOST_NAMES = 30  # largest number of classes whose names fit beside a figure


class Neighbourhood(NamedTuple):
    """A test image and its nearest training images, best first.

    Names are class names, or file names if the images have no classes.
    """

    picture: UInt8[np.ndarray, "h w c"]
    name: str
    pictures: UInt8[np.ndarray, "k h w c"]
    names: list[str]
    cosines: Float[np.ndarray, " k"]
    labelled: bool = True


def plain_text() -> contextlib.AbstractContextManager[None]:
    """Draw names of classes and files literally: `$` does not start a formula."""
    return matplotlib.rc_context({"text.parse_math": False})


@plain_text()
def draw_embedding(
    plane: Float[np.ndarray, "n 2"],
    shares: Float[np.ndarray, " 2"],
    labels: Int[np.ndarray, " n"],
    names: tuple[str, ...],
    subject: str,
) -> Figure:
    """Draw points coloured by class, and the mean of each class as a larger point.

    `shares` are the shares of the variance along the two axes, in [0, 1]. Without
    `names` all points have one colour and the labels are ignored.
    """
    # In random order, so that no class hides another.
    shown = np.random.default_rng(0).permutation(len(plane))[:POINTS]
    colors = class_colors(max(len(names), 1))
    labels = labels if names else np.zeros(len(plane), int)
    figure = Figure(figsize=(10, 7), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.scatter(*plane[shown].T, s=9, c=colors[labels[shown]], lw=0, alpha=0.6)
    for label in np.unique(labels) if names else ():
        mean = plane[labels == label].mean(axis=0)
        style = {"s": 110, "color": colors[label], "edgecolor": "black", "zorder": 3}
        axes.scatter(*mean, label=names[label], **style)
    first, second = (f"{100 * share:.0f} % of the variance" for share in shares)
    axes.set(
        title=f"{subject}: principal components"
        + (", large points are class means" if names else ""),
        xlabel=f"first, {first}",
        ylabel=f"second, {second}",
    )
    if 0 < len(names) <= MOST_NAMES:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


@plain_text()
def draw_confusion(
    shares: Float[np.ndarray, "k k"], names: tuple[str, ...], subject: str
) -> Figure:
    """Draw true classes as rows, predicted classes as columns, in percent of a row."""
    figure = Figure(figsize=(8.5, 7.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=max(shares.max(), 1e-9))
    figure.colorbar(image, label="share of the images of a class")
    axes.set(title=subject, xlabel="predicted class", ylabel="true class")
    if len(names) <= MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        for (row, column), share in np.ndenumerate(shares):
            color = "white" if share > shares.max() / 2 else "black"
            style = {"ha": "center", "va": "center", "color": color}
            size = 9 if len(names) <= 12 else 5
            axes.text(column, row, f"{100 * share:.0f}", fontsize=size, **style)
    return figure


@plain_text()
def draw_neighbours(rows: list[Neighbourhood], subject: str) -> Figure:
    """Draw queries in the left column, and their neighbours beside them.

    Names of the query's class are green, other classes red. File names are grey and
    shortened to their end.
    """
    columns = 1 + max(len(row.names) for row in rows)
    size = 1.3 * columns, 1.55 * len(rows) + 0.6
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    figure.suptitle(f"{subject}\nqueries and their nearest training images (cosine)")
    for line, row in zip(
        figure.subplots(len(rows), columns, squeeze=False), rows, strict=True
    ):
        _show(line[0], row.picture, row.name[-LONGEST:], "black")
        found = zip(line[1:], row.pictures, row.names, row.cosines, strict=True)
        for axes, picture, name, cosine in found:
            color = "green" if name == row.name else "firebrick"
            color = color if row.labelled else "dimgray"
            _show(axes, picture, f"{name[-LONGEST:]}\n{cosine:.3f}", color)
    return figure


def class_colors(count: int) -> Float[np.ndarray, "k 4"]:
    """Return ten colours that differ clearly, or one per class if there are more."""
    if count <= 10:
        return colormaps["tab10"](np.arange(count))
    return colormaps["turbo"](np.linspace(0, 1, count))


def _show(axes: Axes, picture: np.ndarray, title: str, color: str) -> None:
    image = for_display(picture)
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(title, fontsize=8, color=color)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=2)
