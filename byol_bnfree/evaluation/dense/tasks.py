"""Segmentation and depth as tasks: their head, loss and metric. Also all tasks."""

import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.data.dense.example import Example
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
from byol_bnfree.evaluation.dense.places import at_start
from byol_bnfree.evaluation.dense.settings import DenseSettings, SegmentationSettings
from byol_bnfree.evaluation.dense.task import Score, Task
from byol_bnfree.evaluation.dense.training import Fitted, Fitter


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


def segmentation_loss(
    outputs: Array, batch: dict[str, Array], start: bool = False
) -> Float[Array, ""]:
    """Return the cross-entropy at the picture's size; `start` is `places.at_start`."""
    mask = batch["mask"]
    return cross_entropy(resized(outputs, mask.shape[1:], start), mask)


def depth_loss(
    outputs: Array, batch: dict[str, Array], start: bool = False
) -> Float[Array, ""]:
    """Return the reverse Huber loss at the picture's size, as `segmentation_loss`."""
    depth = batch["depth"]
    return reverse_huber(_depths(outputs, depth.shape[1:], start), depth)


def segmentation_score(fitter: Fitter, fitted: Fitted, view: DenseView) -> Score:
    """Return mIoU and the share of right pixels, in [0, 1], on central windows."""
    classes = view.num_classes
    counts, first = np.zeros((classes, classes), np.int64), None
    for outputs, batch, count in fitter.outputs(fitted, view):
        size = batch["mask"].shape[1:]
        scores = resized(outputs, size, at_start(fitter.module))
        predicted = np.asarray(scores.argmax(-1))
        counts += class_counts(predicted[:count], batch["mask"][:count], classes)
        first = first or _shown(batch, predicted, count)
    return Score(segmentation_figures(counts), *first)


def depth_score(fitter: Fitter, fitted: Fitted, view: DenseView) -> Score:
    """Return rel, rms and the shares within 1.25^n, on central windows."""
    sums, first = DepthSums(), None
    for outputs, batch, count in fitter.outputs(fitted, view):
        size = batch["depth"].shape[1:]
        depths = _depths(outputs, size, at_start(fitter.module))
        predicted = np.asarray(depths)
        sums = sums.plus(predicted[:count], batch["depth"][:count])
        first = first or _shown(batch, predicted, count)
    return Score(sums.figures(), *first)


def _shown(
    batch: Example, predicted: np.ndarray, count: int
) -> tuple[Example, np.ndarray]:
    """Return what is drawn of a batch: its true examples, without the padding."""
    return {name: array[:count] for name, array in batch.items()}, predicted[:count]


def _depths(
    outputs: Array, size: tuple[int, int], start: bool
) -> Float[Array, "b h w"]:
    return resized(outputs, size, start)[..., 0]


SEGMENTATION = Task(
    "segmentation",
    "mask",
    "miou",
    segmentation_head,
    segmentation_loss,
    segmentation_score,
)
# rel is an average over pixels. The share pct1 hardly differs between rates on pictures
# that are mostly wall.
DEPTH = Task("depth", "depth", "rel", depth_head, depth_loss, depth_score, True)
TASKS = {task.name: task for task in (SEGMENTATION, DEPTH, DETECTION)}
