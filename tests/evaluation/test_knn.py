"""kNN is exact: equal to brute force, whatever the blocks."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.methods import knn

CLASSES = 5


def data(n=203, m=57, d=6, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(CLASSES, d))
    labels, test_labels = rng.integers(0, CLASSES, n), rng.integers(0, CLASSES, m)
    train = centers[labels] + rng.normal(size=(n, d))
    test = centers[test_labels] + rng.normal(size=(m, d))
    return train.astype(np.float32), labels, test.astype(np.float32), test_labels


def brute_force(train, labels, test, k, temperature):
    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    cosine = unit(test) @ unit(train).T
    votes = np.zeros((len(test), CLASSES))
    for i, row in enumerate(cosine):
        for j in np.argsort(-row)[:k]:
            votes[i, labels[j]] += np.exp(row[j] / temperature)
    return votes.argmax(axis=1)


@pytest.mark.parametrize("k", [1, 3, 20, 150])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_predictions_equal_brute_force(k, temperature):
    train, labels, test, _ = data()
    found = knn.knn_predict(
        train, labels, test, CLASSES, k=k, temperature=temperature, bank_block=128
    )
    np.testing.assert_array_equal(
        found, brute_force(train, labels, test, k, temperature)
    )


@pytest.mark.parametrize("blocks", [(1, 20), (7, 41), (57, 203), (999, 999)])
def test_block_sizes_do_not_matter(blocks):
    train, labels, test, _ = data()
    expected = knn.knn_predict(train, labels, test, CLASSES, k=20)
    found = knn.knn_predict(
        train, labels, test, CLASSES, k=20, test_block=blocks[0], bank_block=blocks[1]
    )
    np.testing.assert_array_equal(found, expected)


def test_filling_of_the_last_bank_block_never_votes():
    # All cosines are negative, so that the zero rows that fill the block are nearer.
    train, labels = -np.ones((5, 3), np.float32), np.full(5, 4)
    test = np.ones((2, 3), np.float32)
    found = knn.knn_predict(train, labels, test, CLASSES, k=3, bank_block=3)
    np.testing.assert_array_equal(found, [4, 4])


def test_scale_of_a_feature_does_not_matter():
    train, labels, test, _ = data()
    scale = np.random.default_rng(1).uniform(0.1, 10, (len(train), 1))
    found = knn.knn_predict(train * scale.astype(np.float32), labels, test, CLASSES)
    np.testing.assert_array_equal(found, knn.knn_predict(train, labels, test, CLASSES))


def test_k_is_capped_at_the_number_of_training_features():
    train, labels, test, _ = data(n=4)
    found = knn.knn_predict(train, labels, test, CLASSES, k=20)
    np.testing.assert_array_equal(found, brute_force(train, labels, test, 4, 0.1))


def test_a_low_temperature_does_not_overflow():
    train, labels, test, _ = data()
    found = knn.knn_predict(train, labels, test, CLASSES, k=20, temperature=1e-3)
    nearest = knn.knn_predict(train, labels, test, CLASSES, k=1)
    np.testing.assert_array_equal(found, nearest)


def test_accuracy_of_training_features_among_themselves_is_one_with_k_one():
    train, labels, _, _ = data()
    found = knn.knn_accuracy(train, labels, train, labels, num_classes=CLASSES, k=1)
    assert found == 1.0


def test_an_empty_bank_is_refused():
    train, labels, test, _ = data(n=0)
    with pytest.raises(InputError, match="0 training features"):
        knn.knn_predict(train, labels, test, CLASSES)


def test_two_devices_find_the_same_neighbours_as_one():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    train, labels, test, _ = data()
    blocks = {"test_block": 20, "bank_block": 64}
    alone = knn.knn_predict(train, labels, test, CLASSES, **blocks)
    together = knn.knn_predict(train, labels, test, CLASSES, mesh=mesh, **blocks)
    np.testing.assert_array_equal(alone, together)


def test_a_half_precision_bank_gives_the_same_labels():
    train, labels, test, _ = data()
    half = knn.knn_predict(train.astype(np.float16), labels, test, CLASSES)
    whole = knn.knn_predict(train, labels, test, CLASSES)
    assert np.mean(half == whole) > 0.97


@pytest.mark.parametrize(
    "change, said",
    [
        ({"train_labels": np.full(40, -1)}, "training labels are -1 to -1, but num_cl"),
        ({"test_labels": np.full(40, 4)}, "test labels are 4 to 4, but num_.* is 4"),
        (
            {"train_features": np.full((40, 8), np.nan, np.float32)},
            "training features are not all finite",
        ),
    ],
)
def test_features_and_labels_that_do_not_fit_are_refused(change, said):
    rows = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    given = {"train_features": rows, "test_features": rows}
    given |= {"train_labels": np.arange(40) % 4, "test_labels": np.arange(40) % 4}
    with pytest.raises(InputError, match=said):
        knn.knn_accuracy(**(given | change), num_classes=4)


def test_features_and_labels_of_other_shapes_are_refused():
    """Without the type checks of these tests, which come before."""
    for features, said in (
        ([[1.0]], "features are list; give an array .n d."),
        (np.ones(40), "features are .40,.; give an array"),
        (np.ones((40, 7)), "test features have 7 numbers and training features 8"),
    ):
        with pytest.raises(InputError, match=said):
            knn.check_features("test", features, 8)
    with pytest.raises(InputError, match="labels are .5,., but there are 40 features"):
        knn.check_labels("test", np.arange(5), 40, 9)
