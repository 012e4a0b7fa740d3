"""Detection as a dense task: its head, its loss and its figures.

P1, the BYOL paper (arXiv 2006.07733), trains a Faster R-CNN on VOC 2007 (appendix D.5).
`detection_head` says why we have FCOS in its place. P1 contradicts itself about the
encoder: section 4 fine-tunes it, and D.5 has it frozen. Here it is a setting.
"""

import jax
import numpy as np
from jaxtyping import Array, Float

from byol_bnfree.data.dense.view import DenseView
from byol_bnfree.encoder import Encoder, dense_module
from byol_bnfree.evaluation.dense.average_precision import detection_figures
from byol_bnfree.evaluation.dense.boxes import (
    Detections,
    Objects,
    keep_best,
    objects_of,
)
from byol_bnfree.evaluation.dense.detection_head import (
    Candidates,
    DetectionHead,
    Raw,
    candidates,
)
from byol_bnfree.evaluation.dense.detection_loss import (
    detection_loss,
    detection_targets,
)
from byol_bnfree.evaluation.dense.places import Grid, grid_of
from byol_bnfree.evaluation.dense.settings import DetectionSettings
from byol_bnfree.evaluation.dense.small_boxes import lost_boxes
from byol_bnfree.evaluation.dense.task import Score, Shown, Task
from byol_bnfree.evaluation.dense.training import FitState, Fitter

LEAST_SCORE = 0.05
"""Of a detection: the root of class probability x centre-ness. FCOS has this limit for
the class probability alone, so it keeps fewer."""


def fcos_head(
    encoder: Encoder, view: DenseView, settings: DetectionSettings
) -> DetectionHead:
    """Return FCOS's towers and predictions, or the predictions alone if linear."""
    depth = 0 if settings.head == "linear" else settings.tower_depth
    layers = dense_module(encoder.module, settings.stride).layers
    return DetectionHead(
        len(view.source.box_names), layers, depth, settings.tower_width
    )


def fcos_loss(outputs: Raw, batch: dict[str, Array], grid: Grid) -> Float[Array, ""]:
    """Return FCOS's loss on a batch of examples. `grid` is the network's."""
    targets = detection_targets(
        batch["boxes"],
        batch["box_class"],
        batch["difficult"],
        size=batch["image"].shape[1:3],
        counts=outputs.centre.shape[1:],
        grid=grid,
    )
    return detection_loss(outputs, targets)


def detection_score(fitter: Fitter, fitted: FitState, view: DenseView) -> Score:
    """Return the average precisions on central windows, in [0, 1], and the counts.

    A precision is NaN if no picture has an object. Ignored objects are not counted.
    """
    found: list[Detections] = []
    truth: list[Objects] = []
    shown = Shown()
    for outputs, batch, count in fitter.outputs(fitted, view):
        chosen = _candidates(outputs, batch["image"].shape[1:3], grid_of(fitter.module))
        best = jax.tree.map(np.asarray, chosen)
        rows = [{name: batch[name][row] for name in batch} for row in range(count)]
        mine = [detected(best, row) for row in range(count)]
        found, truth = found + mine, truth + [objects_of(example) for example in rows]
        shown.add(batch, mine, count)
    figures = detection_figures(found, truth, len(view.source.box_names))
    objects = sum(int((~own.ignored).sum()) for own in truth)
    counts = {"pictures": len(truth), "objects": objects}
    return shown.score(figures | counts)


def detected(best: Candidates, row: int) -> Detections:
    """Return what stays of a picture's candidates, at most a hundred."""
    boxes, scores, classes = (array[row] for array in best)
    sure = scores >= LEAST_SCORE
    return keep_best(Detections(boxes[sure], scores[sure], classes[sure]))


_candidates = jax.jit(candidates, static_argnames=("size", "grid"))

DETECTION = Task(
    "detection",
    "boxes",
    "ap_coco",
    fcos_head,
    fcos_loss,
    detection_score,
    note=lost_boxes,
)
