"""Figures equal those counted by hand."""

import numpy as np
import pytest

from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.methods.metrics import (
    eleven_point_map,
    mean_per_class,
    top_k_accuracy,
)


def of_one_class(scores, targets):
    columns = np.array(scores, np.float32), np.array(targets, np.int8)
    return eleven_point_map(*(column[:, None] for column in columns))


def test_top_k_counts_labels_among_the_k_highest_scores():
    scores = np.array([[0.1, 0.5, 0.4], [0.9, 0.0, 0.1]], np.float32)
    labels = np.array([2, 0])
    assert top_k_accuracy(scores, labels, 1) == 0.5
    assert top_k_accuracy(scores, labels, 2) == 1.0


def test_equal_scores_count_as_chance():
    labels = np.arange(4)
    assert top_k_accuracy(np.zeros((4, 4), np.float32), labels, 1) == 0.25


def test_scores_that_are_not_a_number_are_wrong():
    scores = np.full((3, 4), np.nan, np.float32)
    assert top_k_accuracy(scores, np.zeros(3, int), 4) == 0.0


def test_classes_count_alike_however_many_images_they_have():
    scores = np.eye(3, dtype=np.float32)[[0, 0, 0, 0]]
    assert mean_per_class(scores, np.array([0, 0, 0, 2])) == 0.5


def test_eleven_point_precision_is_that_of_a_hand_count():
    # Precision 1 up to recall 1/2 (six recalls), then 2/3 (five).
    found = of_one_class([4, 3, 2, 1], [1, -1, 1, -1])
    assert found == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_difficult_objects_do_not_count():
    clear = of_one_class([4, 2, 1], [1, 1, -1])
    assert of_one_class([4, 3, 2, 1], [1, 0, 1, -1]) == clear == 1.0


def test_classes_without_an_image_are_left_out_of_the_mean():
    scores = np.array([[2, 0], [1, 1]], np.float32)
    assert eleven_point_map(scores, np.array([[1, -1], [-1, -1]], np.int8)) == 1.0


def test_no_object_has_no_average_precision():
    with pytest.raises(InputError, match="none of 2 images has an object that counts"):
        eleven_point_map(np.ones((2, 2)), np.array([[0, -1], [-1, 0]], np.int8))
