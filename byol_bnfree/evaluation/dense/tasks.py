"""Segmentation and depth as tasks: their head, loss and metric. Also all tasks."""

import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.data.dense.view import DenseView
from byol_bnfree.encoder import Encoder, dense_module
from byol_bnfree.evaluation.dense.detection import DETECTION
from byol_bnfree.evaluation.dense.heads import (
    DepthHead,
    FcnHead,
    LinearHead,
    resized,
)
from byol_bnfree.evaluation.dense.losses import cross_entropy, reverse_huber
from byol_bnfree.evaluation.dense.pixel_metrics import (
    DepthSums,
    class_counts,
    segmentation_figures,
)
from byol_bnfree.evaluation.dense.places import Grid, grid_of
from byol_bnfree.evaluation.dense.settings import DenseSettings, SegmentationSettings
from byol_bnfree.evaluation.dense.task import Score, Shown, Task
from byol_bnfree.evaluation.dense.training import FitState, Fitter


def segmentation_head(
    encoder: Encoder, view: DenseView, settings: SegmentationSettings
) -> nn.Module:
    """Return the FCN's head, or a linear layer."""
    if settings.head == "linear":
        return LinearHead(view.num_classes)
    module = dense_module(encoder.module, settings.stride)
    return FcnHead(view.num_classes, module.layers, settings.width)


def depth_head(encoder: Encoder, view: DenseView, settings: DenseSettings) -> nn.Module:
    """Return up-projections to stride 2, at most four, or a linear layer."""
    if settings.head == "linear":
        return LinearHead(1)
    module = dense_module(encoder.module, settings.stride)
    blocks = max(0, module.total_stride.bit_length() - 2)
    return DepthHead(module.layers, min(4, blocks))


def unnamed_classes(fitter: Fitter, train: DenseView) -> str | None:
    """Say how many classes there are if only the masks tell it."""
    count = train.num_classes
    if train.class_names != tuple(map(str, range(count))):
        return None
    return (
        f"{train.name} has {count} classes, from 0 to the largest value in its masks "
        f"but 255; classes.txt would name them."
    )


def segmentation_loss(
    outputs: Array, batch: dict[str, Array], grid: Grid
) -> Float[Array, ""]:
    """Return the cross-entropy at the picture's size. `grid` is the network's."""
    mask = batch["mask"]
    return cross_entropy(resized(outputs, mask.shape[1:], grid), mask)


def depth_loss(outputs: Array, batch: dict[str, Array], grid: Grid) -> Float[Array, ""]:
    """Return the reverse Huber loss at the picture's size, as `segmentation_loss`."""
    depth = batch["depth"]
    return reverse_huber(_depths(outputs, depth.shape[1:], grid), depth)


def segmentation_score(fitter: Fitter, fitted: FitState, view: DenseView) -> Score:
    """Return mIoU and the share of right pixels, in [0, 1], on central windows."""
    classes = view.num_classes
    counts, shown = np.zeros((classes, classes), np.int64), Shown()
    for outputs, batch, count in fitter.outputs(fitted, view):
        size = batch["mask"].shape[1:]
        scores = resized(outputs, size, grid_of(fitter.module))
        predicted = np.asarray(scores.argmax(-1))
        counts += class_counts(predicted[:count], batch["mask"][:count], classes)
        shown.add(batch, predicted, count)
    return shown.score(segmentation_figures(counts))


def depth_score(fitter: Fitter, fitted: FitState, view: DenseView) -> Score:
    """Return rel, rms and the shares within 1.25^n, on central windows."""
    sums, shown = DepthSums(), Shown()
    for outputs, batch, count in fitter.outputs(fitted, view):
        size = batch["depth"].shape[1:]
        depths = _depths(outputs, size, grid_of(fitter.module))
        predicted = np.asarray(depths)
        sums = sums.plus(predicted[:count], batch["depth"][:count])
        shown.add(batch, predicted, count)
    return shown.score(sums.figures())


def _depths(outputs: Array, size: tuple[int, int], grid: Grid) -> Float[Array, "b h w"]:
    return resized(outputs, size, grid)[..., 0]


SEGMENTATION = Task(
    "segmentation",
    "mask",
    "miou",
    segmentation_head,
    segmentation_loss,
    segmentation_score,
    note=unnamed_classes,
)
# rel is an average over pixels. The share pct1 hardly differs between rates on pictures
# that are mostly wall.
DEPTH = Task("depth", "depth", "rel", depth_head, depth_loss, depth_score, True)
TASKS = {task.name: task for task in (SEGMENTATION, DEPTH, DETECTION)}
"""The dense tasks by name: segmentation, depth and detection."""
