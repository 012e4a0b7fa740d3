"""The linear classifier agrees with scikit-learn and is safe on odd features."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.sources import open_source
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.features import extract_features
from byol_bnfree.evaluation.images.subset import hold_out
from byol_bnfree.evaluation.methods.logistic import (
    STRENGTHS,
    fit_logistic,
    logistic_evaluation,
    standardizer,
)
from byol_bnfree.evaluation.methods.logistic_solver import Problem, minimum, rotate
from byol_bnfree.evaluation.methods.metrics import eleven_point_map
from byol_bnfree.evaluation.outcome import top_figures
from byol_bnfree.models.encoders import create_encoder

CLASSES = 6
SHARED = Path(__file__).parents[3] / "shared" / "tfds"
PIXELS = (SHARED / "cifar10").exists()


@functools.cache
def real_features():
    """A random BatchNorm-free encoder's features of CIFAR-10, 3,000 and 10,000."""
    config = TrainConfig(dataset="cifar10", data_dir=str(SHARED))
    encoder = create_encoder("resnet14", stem="small", stem_stride=2)
    variables = encoder.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), True)
    encode = jax.jit(lambda images: encoder.apply(variables, images / 128 - 1, False))
    arrays = []
    for split, count in (("train", 3000), ("test", 10_000)):
        source, rows = open_source(config, split), np.arange(count)
        arrays += [extract_features(encode, source, rows, 500), source.labels(rows)]
    return arrays


def data(n=600, m=1000, d=8, noise=1.5):
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(CLASSES, d))
    scale, shift = rng.uniform(0.01, 10, d), rng.normal(size=d)

    def sample(count):
        labels = rng.integers(0, CLASSES, count)
        features = centers[labels] + noise * rng.normal(size=(count, d))
        return (features * scale + shift).astype(np.float32), labels

    return *sample(n), *sample(m)


def sklearn_score(strength, train, labels, test, test_labels):
    linear_model = pytest.importorskip("sklearn.linear_model")
    mean, scale = standardizer(train)
    theirs = linear_model.LogisticRegression(C=1 / strength, max_iter=1000)
    theirs.fit((train - mean) / scale, labels)
    return theirs.score((test - mean) / scale, test_labels)


@pytest.mark.parametrize("strength", [1e4, 60, 6e-2, 1e-6])
def test_accuracy_agrees_with_sklearn_at_equal_regularization(strength):
    ours = logistic_evaluation(*data(), num_classes=CLASSES, strengths=(strength,))
    assert abs(ours["top1"] - sklearn_score(strength, *data())) <= 0.002


@pytest.mark.slow
@pytest.mark.skipif(not PIXELS, reason="no prepared CIFAR-10 here")
@pytest.mark.parametrize("strength", [1e3, 1.0, 1e-3])
def test_accuracy_on_real_features_agrees_with_sklearn(strength):
    features = real_features()
    ours = logistic_evaluation(*features, num_classes=10, strengths=(strength,))
    assert abs(ours["top1"] - sklearn_score(strength, *features)) <= 0.002


def test_the_whole_path_ends_where_a_single_fit_does():
    """Warm starts are for speed: the refit at the chosen strength is the same."""
    train, labels, *_ = data()
    path = fit_logistic(train, labels, CLASSES)
    single = fit_logistic(train, labels, CLASSES, strengths=(path.strength,))
    np.testing.assert_allclose(
        path.classifier.scores(train), single.classifier.scores(train), atol=0.05
    )


def test_regularization_that_predicts_the_held_out_rows_is_chosen():
    found = logistic_evaluation(*data(), num_classes=CLASSES, strengths=(1, 1e7))
    assert found["strength"] == 1


def test_strongest_regularization_is_chosen_among_equals():
    train, labels, test, test_labels = data(n=60)
    found = logistic_evaluation(
        train * 0, labels, test * 0, test_labels, num_classes=CLASSES
    )
    assert found["strength"] == max(STRENGTHS)


def test_a_tenth_that_is_fixed_by_the_seed_is_held_out():
    assert hold_out(60, seed=1).sum() == 6
    np.testing.assert_array_equal(hold_out(60, seed=1), hold_out(60, seed=1))
    assert (hold_out(60, seed=1) != hold_out(60, seed=2)).any()


def test_a_row_of_weight_0_is_as_if_it_were_not_there():
    """The penalty belongs to the sum over the rows that count."""
    train, labels, *_ = data(n=60)
    problem, axes = rotate(train / train.std(axis=0), labels)
    first = np.arange(60) < 20
    weighted = problem._replace(weights=jnp.asarray(first, jnp.float32))
    alone = Problem(
        problem.features[:20],
        problem.transposed[:, :20],
        problem.variances,
        problem.targets[:20],
        jnp.ones(20),
    )
    start = jnp.zeros((len(axes) + 1, CLASSES))
    found, expected = (minimum(p, start, 5.0) for p in (weighted, alone))
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_scale_and_shift_of_a_feature_do_not_matter():
    train, labels, test, test_labels = data()
    moved = logistic_evaluation(
        train * 8 + 2, labels, test * 8 + 2, test_labels, num_classes=CLASSES
    )
    still = logistic_evaluation(train, labels, test, test_labels, num_classes=CLASSES)
    assert abs(moved["top1"] - still["top1"]) <= 0.002


def test_constant_features_give_chance():
    train, labels, test, test_labels = data()
    train, test = np.full_like(train, 0.3), np.full_like(test, 0.3)
    found = logistic_evaluation(train, labels, test, test_labels, num_classes=CLASSES)
    assert 0.05 < found["top1"] < 0.3


def test_constant_features_are_not_divided_by_their_rounding():
    features = np.full((1000, 1), 0.1, np.float32)
    features[::2] = np.nextafter(np.float32(0.1), np.float32(1))
    assert standardizer(features)[1] == 1.0


@pytest.mark.parametrize("classes", [2, 5, 6])
def test_top_five_is_reported_with_more_than_five_classes(classes):
    scores = np.eye(classes, dtype=np.float32)
    figures = top_figures(scores, np.roll(np.arange(classes), 1))
    assert ("top5" in figures) == (classes > 5)


def test_one_training_feature_is_refused():
    train, labels, test, test_labels = data(n=1)
    with pytest.raises(InputError, match="needs at least 2"):
        logistic_evaluation(train, labels, test, test_labels, num_classes=CLASSES)


def several_labels():
    """Features, and which of three overlapping halves of the classes each is in."""
    train, labels, test, test_labels = data()
    halves = np.array([[0, 1, 2], [0, 3, 4], [1, 3, 5]])
    member = np.array([[c in half for half in halves] for c in range(CLASSES)])
    signs = np.where(member, 1, -1).astype(np.int8)
    return train, signs[labels], test, signs[test_labels]


def test_several_labels_are_fitted_as_sklearn_fits_one_classifier_each():
    linear_model = pytest.importorskip("sklearn.linear_model")
    train, targets, test, _ = several_labels()
    fit = fit_logistic(train, targets, 3, strengths=(6.0,), score=eleven_point_map)
    mean, scale = standardizer(train)
    for column, ours in enumerate(fit.classifier.scores(test).T):
        theirs = linear_model.LogisticRegression(C=1 / 6, max_iter=1000)
        theirs.fit((train - mean) / scale, targets[:, column])
        expected = theirs.decision_function((test - mean) / scale)
        np.testing.assert_allclose(ours, expected, atol=0.02)


def test_a_class_that_no_row_counts_for_learns_nothing():
    train, targets, test, _ = several_labels()
    targets[:, 1] = 0
    fit = fit_logistic(train, targets, 3, strengths=(6.0,), score=eleven_point_map)
    scores = fit.classifier.scores(test)
    assert np.abs(scores[:, 1]).max() == 0 and np.abs(scores[:, 0]).max() > 1
