"""Figures equal those counted by hand."""

import numpy as np
import pytest

from byol_bnfree.evaluation.metrics import (
    eleven_point_map,
    mean_per_class,
    top_k_accuracy,
)


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


def test_classes_count_alike_whatever_their_size():
    scores = np.eye(2, dtype=np.float32)[[0, 0, 0, 0]]
    assert mean_per_class(scores, np.array([0, 0, 0, 1])) == 0.5


def test_a_perfect_ranking_has_average_precision_one():
    present = np.array([[True, False], [True, True], [False, True]])
    assert eleven_point_map(present.astype(np.float32), present) == 1.0


def test_average_precision_is_the_mean_over_eleven_recalls():
    """Found first and third: precision 1 up to recall 0.5, then 2/3."""
    scores = np.array([[0.9], [0.8], [0.7]], np.float32)
    present = np.array([[True], [False], [True]])
    expected = (6 * 1 + 5 * 2 / 3) / 11
    assert eleven_point_map(scores, present) == pytest.approx(expected)


def test_classes_without_an_image_do_not_count():
    scores = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)
    assert eleven_point_map(scores, np.array([[True, False], [False, False]])) == 1.0
