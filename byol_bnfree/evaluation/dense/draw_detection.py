"""Draws detection.png: pictures, their true objects, and the detected ones."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from byol_bnfree.data.dense.view import DenseView
from byol_bnfree.data.geometry import for_display
from byol_bnfree.evaluation.dense.boxes import Detections, Objects, objects_of
from byol_bnfree.evaluation.dense.evaluation import DenseResult
from byol_bnfree.evaluation.shown.drawing import class_colors, plain_text

ROWS = 6  # pictures that are drawn
LEAST_SCORE = 0.3  # of a box that is drawn; weaker ones would hide the picture
MOST_BOXES = 8  # drawn in a picture, the best ones
ROOM = 0.06  # share of the height that a name needs


def draw_detection(found: DenseResult, test: DenseView) -> Figure:
    """Draw the first test pictures of a result."""
    examples, predicted = found.score.examples, found.score.predicted
    rows = [
        {name: array[row] for name, array in examples.items()}
        for row in range(min(ROWS, len(predicted)))
    ]
    figures = found.outcome.figures
    ap50, ap = 100 * figures["ap50_voc"], 100 * figures["ap_coco"]
    return draw_detections(
        [row["image"] for row in rows],
        [objects_of(row) for row in rows],
        predicted[: len(rows)],
        test.source.box_names,
        f"{test.name} {test.split}: AP50 (VOC) {ap50:.1f} %, AP (COCO) {ap:.1f} %",
    )


@plain_text()
def draw_detections(
    pictures: Sequence[UInt8[np.ndarray, "h w c"]],
    truth: Sequence[Objects],
    found: Sequence[Detections],
    names: tuple[str, ...],
    subject: str,
) -> Figure:
    """Draw up to six pictures, each with its truth and its detections beside it.

    A colour is a class. Dashed objects are difficult and do not count.
    """
    pictures = pictures[:ROWS]
    figure = Figure(
        figsize=(11, 3.6 * max(len(pictures), 1)), dpi=100, layout="constrained"
    )
    titles = "picture", "truth", f"detections with a score of {LEAST_SCORE} or more"
    figure.suptitle(subject)
    colors = class_colors(max(len(names), 1))
    grid = figure.subplots(max(len(pictures), 1), 3, squeeze=False)
    for line, picture, objects, seen in zip(grid, pictures, truth, found, strict=False):
        for axes in line:
            axes.imshow(for_display(picture), cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
        for box, label, ignored in zip(*objects, strict=True):
            _draw_box(line[1], box, names[label], colors[label], dashed=bool(ignored))
        for box, score, label in _strongest(seen):
            _draw_box(line[2], box, f"{names[label]} {score:.2f}", colors[label])
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title)
    return figure


def _strongest(found: Detections) -> list[tuple]:
    """Return the boxes that are drawn, the best one last, so that it is on top."""
    order = np.argsort(-found.scores, kind="stable")[:MOST_BOXES]
    order = order[found.scores[order] >= LEAST_SCORE][::-1]
    return list(zip(*(array[order] for array in found), strict=True))


def _draw_box(
    axes: Axes, box: np.ndarray, text: str, color: np.ndarray, dashed: bool = False
) -> None:
    y0, x0, y1, x1 = box - 0.5  # pixel 0 is drawn from -0.5 to 0.5
    style = {"fill": False, "color": color, "lw": 2, "ls": "--" if dashed else "-"}
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, **style))
    below_edge = y0 < ROOM * axes.get_ylim()[0]  # no room for the name above the box
    label = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
    style = {"fontsize": 7, "va": "top" if below_edge else "bottom", "bbox": label}
    axes.text(max(x0, 0), max(y0, 0), text, clip_on=True, **style)
