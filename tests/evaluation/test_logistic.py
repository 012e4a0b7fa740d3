"""The linear classifier agrees with scikit-learn and is safe on odd features."""

import numpy as np
import pytest

from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.logistic import (
    L2_VALUES,
    hold_out,
    linear_accuracy,
    standardizer,
    top_k_accuracy,
)

CLASSES = 6


def data(n=600, m=1000, d=8, noise=1.5):
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(CLASSES, d))
    scale, shift = rng.uniform(0.01, 10, d), rng.normal(size=d)

    def sample(count):
        labels = rng.integers(0, CLASSES, count)
        features = centers[labels] + noise * rng.normal(size=(count, d))
        return (features * scale + shift).astype(np.float32), labels

    return *sample(n), *sample(m)


@pytest.mark.parametrize("l2", [1e-1, 1e-2, 1e-4])
def test_accuracy_agrees_with_sklearn_at_equal_regularization(l2):
    linear_model = pytest.importorskip("sklearn.linear_model")
    train, labels, test, test_labels = data()
    mean, scale = standardizer(train)
    theirs = linear_model.LogisticRegression(C=1 / (len(train) * l2), max_iter=1000)
    theirs.fit((train - mean) / scale, labels)
    expected = theirs.score((test - mean) / scale, test_labels)
    ours = linear_accuracy(
        train, labels, test, test_labels, num_classes=CLASSES, l2_values=(l2,)
    )
    assert abs(ours["top1"] - expected) <= 0.002


def test_regularization_that_predicts_the_held_out_rows_is_chosen():
    found = linear_accuracy(*data(), num_classes=CLASSES, l2_values=(1e-3, 1e4))
    assert found["l2"] == 1e-3


def test_strongest_regularization_is_chosen_among_equals():
    train, labels, test, test_labels = data(n=60)
    found = linear_accuracy(
        train * 0, labels, test * 0, test_labels, num_classes=CLASSES
    )
    assert found["l2"] == max(L2_VALUES)


def test_a_tenth_that_is_fixed_by_the_seed_is_held_out():
    assert hold_out(60, seed=1).sum() == 6
    np.testing.assert_array_equal(hold_out(60, seed=1), hold_out(60, seed=1))
    assert (hold_out(60, seed=1) != hold_out(60, seed=2)).any()


def test_scale_and_shift_of_a_feature_do_not_matter():
    train, labels, test, test_labels = data()
    moved = linear_accuracy(
        train * 8 + 2, labels, test * 8 + 2, test_labels, num_classes=CLASSES
    )
    still = linear_accuracy(train, labels, test, test_labels, num_classes=CLASSES)
    assert abs(moved["top1"] - still["top1"]) <= 0.002


def test_constant_features_give_chance():
    train, labels, test, test_labels = data()
    train, test = np.full_like(train, 0.3), np.full_like(test, 0.3)
    found = linear_accuracy(train, labels, test, test_labels, num_classes=CLASSES)
    assert 0.05 < found["top1"] < 0.3


def test_constant_features_are_not_divided_by_their_rounding():
    features = np.full((1000, 1), 0.1, np.float32)
    features[::2] = np.nextafter(np.float32(0.1), np.float32(1))
    assert standardizer(features)[1] == 1.0


def test_top_five_of_fewer_classes_counts_all_of_them():
    train, labels, test, test_labels = data()
    few = labels % 3, test_labels % 3
    found = linear_accuracy(train, few[0], test, few[1], num_classes=3)
    assert found["top5"] == 1.0


def test_one_training_feature_is_refused():
    train, labels, test, test_labels = data(n=1)
    with pytest.raises(InputError, match="needs at least 2"):
        linear_accuracy(train, labels, test, test_labels, num_classes=CLASSES)


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
