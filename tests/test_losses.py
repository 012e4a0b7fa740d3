from inspect import unwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byol_bnfree.errors import InputError
from byol_bnfree.losses import (
    byol_loss,
    in_top_k,
    l2_normalize,
    probe_loss,
    regression_loss,
    top_k,
)

X = jnp.array([[3.0, 4.0], [1.0, 0.0]])


@pytest.mark.parametrize("scale, loss", [(2.0, 0.0), (-1.0, 4.0)])
def test_loss_is_2_minus_2_cosine(scale, loss):
    np.testing.assert_allclose(regression_loss(X, scale * X), loss, atol=1e-6)
    np.testing.assert_allclose(regression_loss(X[1:], jnp.array([[0.0, 5.0]])), 2.0)


def test_each_prediction_meets_the_target_of_the_other_view():
    """q1 with z2 and q2 with z1, summed: the two targets differ."""
    east, north = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]])
    q, z = (east, north), (north, east)
    np.testing.assert_allclose(byol_loss(q, z), 4 - 4, atol=1e-6)
    q, z = (east, -north), (east, north)
    np.testing.assert_allclose(byol_loss(q, z), 2 + 2, atol=1e-6)
    q, z = (east, east), (north, -east)
    np.testing.assert_allclose(byol_loss(q, z), 4 + 2, atol=1e-6)


def test_target_receives_no_gradient():
    gradient = jax.grad(lambda z: byol_loss((X, X), (z, z)).sum())(X + 1)
    assert not gradient.any()


def test_zero_vector_has_a_finite_loss_and_gradient():
    zero = jnp.zeros((1, 2))
    assert not l2_normalize(zero).any()
    gradient = jax.grad(lambda q: regression_loss(q, X[:1]).sum())(zero)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_the_loss_of_half_numbers_is_that_of_the_same_numbers_in_float32(dtype):
    large = (300 * X).astype(dtype)
    small = (1e-4 * X).astype(dtype)
    assert regression_loss(large, small).dtype == jnp.float32
    np.testing.assert_allclose(regression_loss(large, X.astype(dtype)), 0, atol=1e-6)
    np.testing.assert_allclose(regression_loss(large, small), 0, atol=1e-5)
    np.testing.assert_allclose(regression_loss(0 * large, large), 1, atol=1e-6)


def test_arrays_of_different_shapes_have_no_loss():
    for other in (X[:1], X[0], X[:, :1]):
        with pytest.raises(InputError, match="shape"):
            unwrap(regression_loss)(X, other)


def test_the_loss_of_an_example_needs_an_axis_of_examples():
    for array, why in ((X[0], r"shape \(2,\)"), (None, "is of type NoneType; give an")):
        with pytest.raises(InputError, match=why):
            unwrap(regression_loss)(array, array)


@pytest.mark.parametrize("views", [X, (X, X, X), (X,), None, "ab"])
def test_the_symmetric_loss_takes_two_views(views):
    """A single array whose batch is 2 would count as two views."""
    for given in ((views, (X, X)), ((X, X), views)):
        with pytest.raises(InputError, match="give a tuple of two arrays"):
            unwrap(byol_loss)(*given)
    unwrap(byol_loss)([X, X], [X, X])


@pytest.mark.parametrize("dtype", [int, bool, complex])
def test_the_loss_takes_real_floats(dtype):
    for given in ((X.astype(dtype), X), (X, X.astype(dtype))):
        with pytest.raises(InputError, match="give an array of floats"):
            unwrap(regression_loss)(*given)


def test_rows_whose_squares_overflow_have_no_perfect_loss():
    for scale in (1e20, jnp.inf):
        loss = regression_loss(scale * X, -scale * X)
        assert jnp.isnan(loss).all()
    np.testing.assert_allclose(regression_loss(1e18 * X, -X), 4, rtol=1e-6)


def test_rows_shorter_than_1e_6_are_divided_by_1e_6():
    np.testing.assert_allclose(l2_normalize(1e-8 * X), 1e-2 * X, rtol=1e-5)
    np.testing.assert_allclose(l2_normalize(1e-5 * X), [[0.6, 0.8], [1, 0]], rtol=1e-5)


def test_unlabelled_examples_cost_nothing():
    losses = probe_loss(jnp.array([[0.0, 0.0], [0.0, 0.0]]), jnp.array([1, -1]))
    np.testing.assert_allclose(losses, [np.log(2), 0])


def test_top_k_counts_labelled_examples_and_breaks_ties_by_class():
    logits = jnp.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [0, 0, 9]])
    labels = jnp.array([0, 1, 2, -1])
    assert top_k(logits, labels, 1) == pytest.approx(1 / 3)
    assert top_k(logits, labels, 2) == pytest.approx(2 / 3)


@pytest.mark.parametrize("numbers", [np.asarray, jnp.asarray])
def test_a_row_with_nan_is_not_right_by_chance(numbers):
    nan = np.nan
    scores = numbers([[nan, nan], [nan, 1.0], [1.0, nan], [1.0, 0.0]])
    labels = numbers([0, 0, 0, 0])
    assert in_top_k(scores, labels, 1).tolist() == [False, False, False, True]
    assert in_top_k(scores, labels, 2).tolist() == [False, False, True, True]
