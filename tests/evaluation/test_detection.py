"""Detection as a task: it learns on generated scenes, and its figures are counts."""

import dataclasses
import functools

import numpy as np
import pytest

import tiny
from byol_bnfree.data.dense.shapes import Scenes
from byol_bnfree.data.dense.view import DenseView, Windows
from byol_bnfree.evaluation.dense.detection import (
    DETECTION,
    detected,
    detection_score,
)
from byol_bnfree.evaluation.dense.detection_head import Candidates
from byol_bnfree.evaluation.dense.settings import DetectionSettings
from byol_bnfree.evaluation.dense.small_boxes import lost_boxes
from byol_bnfree.training.mesh import make_mesh

SETTINGS = DetectionSettings(batch_size=4, tower_depth=1, tower_width=16)
NORMS = pytest.mark.parametrize("norm", ["bn", "gn_ws"])


@functools.cache
def view(split: str = "train", pictures: int = 8) -> DenseView:
    return DenseView(Scenes(split, pictures, 32), Windows((32, 32)))


def fitter(norm: str, **fields):
    settings = dataclasses.replace(SETTINGS, **fields)
    mesh = make_mesh()
    return DETECTION.fitter(tiny.encoder(norm), view(), settings, seed=0, mesh=mesh)


@pytest.mark.slow
@NORMS
def test_precision_rises_from_the_untrained_start(norm):
    trained = fitter(norm, steps=80, batch_size=8)
    start = trained.start(view())
    before = detection_score(trained, start, view("test", 32)).figures
    after = detection_score(
        trained, trained.fit(view("train", 64), 0.02), view("test", 32)
    )
    assert before["ap50_voc"] < 0.05
    assert after.figures["ap50_voc"] > before["ap50_voc"] + 0.1  # 0.26, 0.29 here


def test_boxes_without_a_place_are_counted_and_a_smaller_stride_is_named():
    class Small(Scenes):
        def example(self, index):
            boxes = np.zeros((100, 4), np.float32)
            boxes[0], boxes[1] = (1, 1, 3, 3), (0, 0, 30, 30)
            classes = np.where(np.arange(100) < 2, 0, -1).astype(np.int32)
            whole = {"boxes": boxes, "box_class": classes}
            return super().example(index) | whole | {"difficult": np.zeros(100, bool)}

    small = DenseView(Small("train", 3, 32), Windows((32, 32), flip=False))
    coarse, fine = (fitter("gn_ws", stride=stride) for stride in (2, 1))
    said = lost_boxes(coarse, small)
    assert said.startswith(
        "3 of 6 training boxes contain no place of the map at stride"
    )
    assert said.endswith("give --detection.stride=1.")
    assert lost_boxes(fine, small) is None


def test_weak_candidates_are_no_detections():
    boxes = np.float32([[[0, 0, 9, 9], [20, 20, 29, 29], [0, 0, 9, 9]]])
    scores, classes = np.float32([[0.9, 0.04, 0.06]]), np.int32([[1, 1, 0]])
    found = detected(Candidates(boxes, scores, classes), 0)
    assert found.classes.tolist() == [1, 0]


@NORMS
def test_objects_that_count_are_counted(norm):
    subject, pictures = fitter(norm, head="linear"), view("train", 12)
    score = detection_score(subject, subject.start(pictures), pictures)
    rows = [pictures.source.example(k) for k in range(12)]
    known = [(row["box_class"] >= 0) & ~row["difficult"] for row in rows]
    assert any(row["difficult"].any() for row in rows)
    assert score.figures["pictures"] == len(rows)
    assert score.figures["objects"] == np.sum(known)
    assert len(score.predicted) == len(score.examples["image"]) == 6
    assert 0 <= score.figures["ap_coco"] <= score.figures["ap50_coco"] <= 1


def test_without_objects_there_is_no_precision():
    class Empty(Scenes):
        def example(self, index):
            return super().example(index) | {"box_class": np.full(100, -1, np.int32)}

    subject = fitter("gn_ws", head="linear")
    nothing = DenseView(Empty("test", 4, 32), Windows((32, 32)))
    figures = detection_score(subject, subject.start(view()), nothing).figures
    assert figures["objects"] == 0 and np.isnan(figures["ap50_voc"])
