"""Pictures of a dense task: examples with truth and prediction, and curves."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from byol_bnfree.data.dense.example import IGNORE
from byol_bnfree.data.dense.view import DenseView
from byol_bnfree.data.geometry import for_display
from byol_bnfree.evaluation.dense.draw_detection import draw_detection
from byol_bnfree.evaluation.dense.evaluation import DenseResult
from byol_bnfree.evaluation.dense.task import Task
from byol_bnfree.evaluation.shown.drawing import MOST_NAMES, class_colors, plain_text
from byol_bnfree.files import save_figure

WHITE = (1.0, 1.0, 1.0, 1.0)  # of pixels that are ignored; no class has it


def save_dense(
    task: Task, found: DenseResult, test: DenseView, place: tuple[Path, str]
) -> list[Path]:
    """Write TASK.png and TASK_curves.png; return their paths.

    `place` is the folder, and an ending of the names.
    """
    folder, ending = place
    figures = {
        task.name: DRAWN[task.name](found, test),
        f"{task.name}_curves": draw_curves(task, found),
    }
    paths = [folder / f"{name}{ending}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        save_figure(path, figure)
    return paths


@plain_text()
def draw_segmentation(found: DenseResult, test: DenseView) -> Figure:
    """Draw pictures, their true classes and the predicted classes, with a legend."""
    count = _count(found)
    masks, predicted = found.score.examples["mask"], found.score.predicted
    names = test.class_names
    miou = 100 * found.outcome.figures["miou"]
    title = f"{test.name} {test.split}: mIoU {miou:.1f} %"
    figure, lines = _grid(title, count, ("picture", "truth", "prediction"))
    for column in range(count):
        _show_picture(lines[0][column], found.score.examples["image"][column])
        for line, classes in ((1, masks), (2, predicted)):
            ignored = masks[column] == IGNORE
            colours = mask_colours(classes[column], ignored, len(names))
            _show(lines[line][column], colours)
    seen = np.unique([*masks[:count].flat, *predicted[:count].flat])
    seen = seen[seen < len(names)][:MOST_NAMES]
    palette = class_palette(len(names))
    handles = [Patch(color=palette[k], label=names[k]) for k in seen]
    if (masks[:count] == IGNORE).any():
        handles.append(Patch(facecolor=WHITE, edgecolor="gray", label="ignored"))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    return figure


@plain_text()
def draw_depth(found: DenseResult, test: DenseView) -> Figure:
    """Draw pictures, their true depth and the predicted depth, on one scale."""
    count = _count(found)
    truth = np.where(
        found.score.examples["depth"] > 0, found.score.examples["depth"], np.nan
    )[:count]
    figures = found.outcome.figures
    title = (
        f"{test.name} {test.split}: within 1.25 {100 * figures['pct1']:.1f} %, "
        f"rel {figures['rel']:.3f}, rms {figures['rms']:.3f} m"
    )
    figure, lines = _grid(title, count, ("picture", "truth", "prediction"))
    farthest = float(np.nanmax(truth, initial=0.0)) or 1.0  # all may be unknown
    limits = {"vmin": 0.0, "vmax": farthest, "cmap": "viridis_r"}
    for column in range(count):
        _show_picture(lines[0][column], found.score.examples["image"][column])
        _show(lines[1][column], truth[column], **limits)
        _show(lines[2][column], found.score.predicted[column], **limits)
    image = lines[2][0].images[0]
    figure.colorbar(image, ax=lines[1:, :], label="depth, metres (white: unknown)")
    return figure


def draw_curves(task: Task, found: DenseResult) -> Figure:
    """Draw the loss and the figures of the first test pictures against the step.

    A fit that was resumed shows its later steps only, and none if it had ended.
    """
    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*np.reshape(found.losses, (-1, 2)).T, lw=1)
    left.set(xlabel="step", ylabel="loss of a batch", ylim=(0, None))
    names = found.curve[0] if found.curve else {}
    shares = [n for n in names if n.startswith(("miou", "pixel", "pct", "ap"))]
    for name in shares:
        points = [(point["step"], 100 * point[name]) for point in found.curve]
        right.plot(*zip(*points, strict=True), marker="o", label=name)
    right.set(xlabel="step", ylabel="%, first test pictures", ylim=(0, 100))
    if shares:
        right.legend(frameon=False)
    figure.suptitle(f"{task.name}, rate {found.outcome.chosen['rate']:g}")
    return figure


def mask_colours(
    classes: Int[np.ndarray, "h w"], ignored: np.ndarray, count: int
) -> Float[np.ndarray, "h w 4"]:
    """Return the colour of each pixel's class; ignored pixels are white."""
    palette = class_palette(count)
    colours = palette[np.minimum(classes, count - 1)]
    colours[ignored] = WHITE
    return colours


def class_palette(count: int) -> Float[np.ndarray, "k 4"]:
    """Return a dark colour for class 0, the background, and clear ones for the rest."""
    return np.concatenate([[(0.1, 0.1, 0.1, 1.0)], class_colors(max(count - 1, 1))])


def _count(found: DenseResult) -> int:
    return len(found.score.predicted)


def _grid(title: str, columns: int, names: tuple[str, ...]) -> tuple[Figure, Any]:
    size = 1.9 * columns + 1.2, 1.9 * len(names) + 1.0
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    figure.suptitle(title)
    lines = figure.subplots(len(names), columns, squeeze=False)
    for line, name in zip(lines, names, strict=True):
        line[0].set_ylabel(name)
    return figure, lines


def _show_picture(axes: Axes, picture: np.ndarray) -> None:
    _show(axes, for_display(picture), vmin=0, vmax=255)


def _show(axes: Axes, image: np.ndarray, **style) -> None:
    style = {"cmap": "gray", "interpolation": "nearest"} | style
    axes.imshow(image, **style)
    axes.set(xticks=[], yticks=[])


DRAWN = {
    "segmentation": draw_segmentation,
    "depth": draw_depth,
    "detection": draw_detection,
}
