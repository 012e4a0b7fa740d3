"""Figures equal those counted by hand."""

import numpy as np

from byol_bnfree.evaluation.metrics import top_k_accuracy


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
