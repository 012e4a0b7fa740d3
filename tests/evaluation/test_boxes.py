"""Overlaps, non-maximum suppression and the cleaning of boxes."""

import numpy as np
import pytest

from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.dense.boxes import (
    Detections,
    Faults,
    areas,
    clean,
    keep_best,
    overlaps,
)
from detected import boxes_at, detections, objects, random_boxes, uniform

# Of torchvision.ops.nms (torchvision 0.29.1): the rows that stay, best first.
TORCHVISION = {
    0.3: "6 10 18 38 20 2 5 28 7",
    0.5: "6 10 18 38 20 2 24 22 4 5 25 28 32 23 7 35 12 21 14 11 34 19 31 27",
    0.7: "6 10 18 38 20 2 24 22 26 4 37 5 25 28 32 23 7 35 13 12 16 21 14 17 1 39 0 3 "
    "29 11 8 33 34 19 31 27 30 15",
}
SQUARE, BESIDE, FAR = (0, 0, 10, 10), (0, 1, 10, 11), (50, 50, 60, 60)


def test_an_overlap_is_the_intersection_over_the_union():
    found = overlaps(boxes_at(SQUARE), boxes_at(SQUARE, BESIDE, FAR, (0, 0, 10, 5)))
    np.testing.assert_allclose(found, [[1, 9 / 11, 0, 0.5]])


def test_a_part_of_a_crowd_lies_in_it_completely():
    part, crowd = boxes_at((0, 0, 10, 5)), boxes_at(SQUARE)
    assert overlaps(part, crowd, np.array([True])) == 1


def test_empty_and_inverted_boxes_have_no_area_and_overlap_nothing():
    boxes = boxes_at((5, 5, 5, 5), (9, 9, 1, 1))
    assert areas(boxes).tolist() == [0, 0]
    assert not overlaps(boxes, boxes).any()


@pytest.mark.parametrize("threshold", TORCHVISION)
def test_suppression_equals_torchvision(threshold):
    boxes = random_boxes("nms", 40)
    scores = uniform("nms/score", 40).astype(np.float32)
    kept = keep_best(Detections(boxes, scores, np.zeros(40, np.int32)), threshold)
    rows = [int(np.flatnonzero(scores == score)[0]) for score in kept.scores]
    assert rows == [int(row) for row in TORCHVISION[threshold].split()]


@pytest.mark.parametrize("name", "pqrs")
def test_suppression_follows_its_definition(name):
    boxes, classes = random_boxes(name, 25), np.arange(25) % 3
    scores = uniform(f"{name}/score", 25).round(1).astype(np.float32)
    left = sorted(range(25), key=lambda row: (-scores[row], row))
    expected = []
    while left:
        best = left.pop(0)
        expected.append(best)
        near = overlaps(boxes[[best]], boxes)[0] > 0.4
        left = [row for row in left if classes[row] != classes[best] or not near[row]]
    kept = keep_best(Detections(boxes, scores, classes), 0.4)
    np.testing.assert_array_equal(kept.boxes, boxes[expected])


def test_classes_do_not_suppress_each_other():
    found = detections([SQUARE, SQUARE, SQUARE], [0.5, 0.9, 0.7], [0, 0, 1])
    kept = keep_best(found)
    assert kept.classes.tolist() == [0, 1]
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7])


def test_an_overlap_of_the_threshold_itself_suppresses_nothing():
    found = detections([SQUARE, (0, 0, 10, 5)], [0.9, 0.5], [0, 0])
    assert len(keep_best(found, 0.5).scores) == 2
    assert len(keep_best(found, 0.49).scores) == 1


def test_the_best_detections_come_first_and_others_are_dropped():
    found = detections([SQUARE, FAR], [0.5, 0.9], [0, 1])
    assert keep_best(found, most=1).classes.tolist() == [1]
    assert keep_best(found).classes.tolist() == [1, 0]


def test_nothing_found_is_no_error():
    assert keep_best(detections([], [], [])).boxes.shape == (0, 4)


def test_boxes_beyond_the_picture_are_clipped_and_empty_ones_dropped():
    corners = [SQUARE, (-5, 0, 10, 200), (300, 0, 400, 10), (5, 5, 5, 9), (9, 9, 5, 5)]
    cleaned, faults = clean(objects(corners, [0] * 5), 20, 30, ("a",))
    assert cleaned.boxes.tolist() == [[0, 0, 10, 10], [0, 0, 10, 30]]
    assert faults == Faults(clipped=1, dropped=3)
    assert faults.plus(faults).sentence("voc train") == (
        "voc train: 2 boxes reach beyond their picture and were clipped; 6 boxes have "
        "no area and were dropped."
    )
    assert Faults().sentence("voc train") == ""


@pytest.mark.parametrize("label", [-1, 2])
def test_a_class_without_name_is_one_sentence(label):
    with pytest.raises(InputError, match=f"a box has the class {label}, but the set"):
        clean(objects([SQUARE], [label]), 20, 30, ("a", "b"))


def test_corners_that_are_no_numbers_are_one_sentence():
    with pytest.raises(InputError, match="a box has the corners .*nan"):
        clean(objects([(0, 0, np.nan, 10)], [0]), 20, 30, ("a",))


def test_boxes_of_one_pixel_have_the_area_one():
    assert areas(boxes_at((3, 4, 4, 5))).tolist() == [1]
