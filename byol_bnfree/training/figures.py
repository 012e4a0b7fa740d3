"""Figures of a run: the two views of a few images, and curves of its metrics.

They are drawn without pyplot, which holds global state and may open a window.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Array, Float, UInt8

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.geometry import for_display
from byol_bnfree.data.pipeline import stream_order
from byol_bnfree.data.sources import Source
from byol_bnfree.data.stream import StreamSource
from byol_bnfree.files import save_figure

Row = Mapping[str, float | None]
PICTURES = 8  # columns of a sheet


class Sheet(NamedTuple):
    """A few images of a batch, and the views that the networks see of each."""

    images: UInt8[np.ndarray, "b H W c"]
    views: Mapping[str, Float[Array | np.ndarray, "b h w c"]]
    """Name of each view to its pixels in [0, 1]; other values are clipped. Of more
    channels three are shown."""
    names: Sequence[str]
    """Class name of each image; "" if it has none."""


class Panel(NamedTuple):
    """One plot against the step."""

    title: str
    unit: str
    lines: dict[str, str]
    """Maps each metric to its name in the legend."""
    scale: Literal["from zero", "tight", "log", "share"] = "from zero"
    factor: float = 1.0
    """Multiplies the values of the metric."""


PANELS = (
    # Without batch statistics the loss spans decades, and small values matter.
    Panel("loss", "byol: 2 - 2 cos, both orders", {"train/loss": "loss"}, "log"),
    Panel(
        "accuracy",
        "%",
        {
            "knn/top1": "kNN, test pictures",
            "probe/top1": "probe, training views",
            "probe/top5": "probe, top-5",
        },
        factor=100.0,
    ),
    Panel(
        "collapse measures",
        "deviation, cosine",
        {
            "collapse/feature_std": "feature std",
            "collapse/positive_cosine": "cosine, same image",
            "collapse/negative_cosine": "cosine, other images",
        },
    ),
    Panel(
        "effective rank",
        "directions",
        {
            "collapse/effective_rank": "of representations",
            "collapse/centered_rank": "without their mean",
        },
    ),
    Panel("learning rate", "scaled rate", {"optim/lr": "learning rate"}),
    Panel("decay of the target", "tau", {"ema/tau": "tau"}, "tight"),
    Panel(
        "norms",
        "l2 norm, all parameters",
        {"optim/grad_norm": "gradient", "optim/update_norm": "update"},
        scale="log",
    ),
    Panel("throughput", "images/s", {"perf/images_per_s": "images/s"}),
    Panel(
        "waiting for data",
        "share of the time",
        {"perf/data_wait": "data wait"},
        scale="share",
    ),
)


def sheet_of(
    config: TrainConfig,
    source: Source,
    views: Sequence[Float[Array | np.ndarray, "b h w c"]],
) -> Sheet:
    """Return the first pictures of the first batch and their views."""
    shown = min(PICTURES, config.batch_size)
    indices = stream_order(config.seed, 0, shown, len(source))
    if isinstance(source, StreamSource):
        images = source.with_stand_ins(indices)
    else:
        images = source.images(indices)
    labels, names = source.labels(indices), source.class_names
    return Sheet(
        images,
        {_view_name(i, config): view[:shown] for i, view in enumerate(views)},
        [names[label] if names and label >= 0 else "" for label in labels],
    )


def _view_name(index: int, config: TrainConfig) -> str:
    """Return "view 1 (T)", "view 2 (T')", ..., "small 1 (T)", ..."""
    count, letter = config.views.count, "T'" if index % 2 else "T"
    if index < count:
        return f"view {index + 1} ({letter})"
    return f"small {index - count + 1} ({letter})"


def save_views(path: str | Path, sheet: Sheet, n: int = PICTURES) -> None:
    """Write the first n images with their classes, and the views below each."""
    n = min(n, len(sheet.images))
    rows = {"picture": np.asarray(sheet.images[:n], np.float32) / 255}
    rows |= {k: np.asarray(view[:n], np.float32) for k, view in sheet.views.items()}
    figure = _figure(1.25 * n + 0.9, 1.35 * len(rows) + 0.35)
    axes = figure.subplots(len(rows), n, squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, np.clip(images, 0, 1), strict=True):
            axis.imshow(
                for_display(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest"
            )
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    for axis, name in zip(axes[0], sheet.names, strict=False):
        axis.set_title(textwrap.fill(name, 16), fontsize=8, parse_math=False)
    save_figure(Path(path), figure)


def save_curves(path: str | Path, rows: Sequence[Row], title: str = "") -> None:
    """Write curves of the rows of `metrics.jsonl` against the step, one panel per
    topic.

    A panel without data says so. None and NaN leave gaps. `title` names the run.
    """
    figure = _figure(14, 9.5)
    figure.suptitle(title, parse_math=False)
    for axis, panel in zip(figure.subplots(3, 3).flat, PANELS, strict=True):
        _draw_panel(axis, panel, rows)
    save_figure(Path(path), figure)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _draw_panel(axis: Any, panel: Panel, rows: Sequence[Row]) -> None:
    axis.set(title=panel.title, xlabel="step", ylabel=panel.unit)
    axis.grid(alpha=0.3)
    drawn = False
    for metric, name in panel.lines.items():
        points = _points(rows, metric) * (1, panel.factor)
        if panel.scale == "log":
            points[points[:, 1] <= 0, 1] = np.nan
        if np.isfinite(points[:, 1]).any():
            style = "-" if len(points) > 60 else ".-"
            axis.plot(*points.T, style, label=name)
            drawn = True
    if not drawn:
        axis.text(0.5, 0.5, "no data", ha="center", transform=axis.transAxes)
        return
    axis.ticklabel_format(axis="y", useOffset=False)
    _set_scale(axis, panel.scale)
    if len(panel.lines) > 1:
        axis.legend(fontsize="small")


def _set_scale(axis: Any, scale: str) -> None:
    if scale == "log":
        axis.set_yscale("log")
    elif scale == "share":
        axis.set_ylim(0, 1)
    elif scale == "from zero":
        # A zoomed axis would make noise look like a trend.
        low, high = axis.get_ylim()
        axis.set_ylim(min(0, low), max(0, high) * 1.05)


def _points(rows: Sequence[Row], metric: str) -> Float[np.ndarray, "n 2"]:
    """Return (step, value) of the rows that have the metric; None becomes NaN."""
    points = [(row["step"], row[metric]) for row in rows if metric in row]
    return np.array(points, np.float64).reshape(len(points), 2)
