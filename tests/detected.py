"""Pictures with objects and detections, the same on every platform."""

import numpy as np

from anchor import draw
from byol_bnfree.evaluation.dense.boxes import Detections, Objects

SIDE = 100.0


def boxes_at(*corners) -> np.ndarray:
    """Boxes [n 4] from lists of corners."""
    return np.array(corners, np.float32).reshape(-1, 4)


def objects(boxes, classes, ignored=None) -> Objects:
    """Objects of a picture; none of them is ignored unless stated."""
    ignored = np.zeros(len(classes)) if ignored is None else ignored
    classes = np.array(classes, np.int32).reshape(-1)
    return Objects(boxes_at(*boxes), classes, np.array(ignored, bool).reshape(-1))


def detections(boxes, scores, classes) -> Detections:
    """Detections of a picture."""
    scores = np.array(scores, np.float32).reshape(-1)
    return Detections(boxes_at(*boxes), scores, np.array(classes, np.int32).reshape(-1))


def uniform(name: str, *shape: int) -> np.ndarray:
    """Draws from [0, 1)."""
    return draw(name, shape) / (2 * np.sqrt(3)) + 0.5


def random_boxes(name: str, count: int) -> np.ndarray:
    """Boxes [n 4] inside a picture of 100 pixels, with sides of 15 to 50."""
    low = uniform(f"{name}/low", count, 2) * SIDE / 2
    sides = 15 + uniform(f"{name}/sides", count, 2) * (SIDE / 2 - 15)
    return np.concatenate([low, low + sides], axis=1).round(2).astype(np.float32)


def scene(name: str, pictures: int = 12, classes: int = 3):
    """Detections and objects of some pictures. Some have no objects, some nothing.

    Detections are shifted copies of the objects, twice each, and random boxes. Scores
    have one digit, so many are equal. A fifth of the objects is ignored.
    """
    found, truth = [], []
    for number in range(pictures):
        own = f"{name}/{number}"
        count = number % 5  # pictures 0, 5 and 10 have no objects
        boxes = random_boxes(f"{own}/true", count)
        labels = np.floor(uniform(f"{own}/label", count) * classes).astype(np.int32)
        truth.append(Objects(boxes, labels, uniform(f"{own}/ignored", count) < 0.2))
        shift = 12 * (uniform(f"{own}/shift", 2 * count, 4) - 0.5)
        near = np.concatenate([boxes, boxes]) + shift
        near = np.concatenate([near, random_boxes(f"{own}/other", number % 3)])
        kinds = np.concatenate([labels, labels, np.arange(number % 3)])
        scores = uniform(f"{own}/score", len(near)).round(1)
        found.append(
            Detections(
                near.round(2).astype(np.float32),
                scores.astype(np.float32),
                kinds.astype(np.int32),
            )
        )
    return found, truth
