"""The search for neighbours is exact, and never holds all cosines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byol_bnfree.evaluation.methods import neighbours


def test_rows_are_found_by_cosine_best_first():
    bank = np.array([[0, 1], [5, 0.1], [1, 1], [-1, 0]], np.float32)
    rows, cosines = neighbours.nearest(bank, np.array([[2, 0]], np.float32), k=9)
    assert rows[0].tolist() == [1, 2, 0, 3]
    expected = [5 / np.hypot(5, 0.1), np.sqrt(0.5), 0, -1]
    np.testing.assert_allclose(cosines[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [70, 256, 1000])
def test_grouped_search_finds_the_top_k(n):
    x = jax.random.normal(jax.random.key(n), (9, n))
    values, indices = neighbours._top_k(x, 3)
    expected_values, expected_indices = jax.lax.top_k(x, 3)
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(indices, expected_indices)


def test_grouped_search_finds_neighbours_that_share_a_group():
    groups = -(-1000 // neighbours._GROUP)
    best = jnp.arange(3) * groups  # three columns of group 0
    x = jnp.zeros((1, 1000)).at[:, best].set(jnp.array([[3.0, 2.0, 1.0]]))
    np.testing.assert_array_equal(neighbours._top_k(x, 3)[1], best[None, :])


def test_no_array_of_all_cosines_is_ever_made():
    """The largest array of a merge is one block of tests against one of the bank."""
    shapes = [
        (
            jax.ShapeDtypeStruct((4, 3), "float32"),
            jax.ShapeDtypeStruct((4, 3), "int32"),
        ),
        jax.ShapeDtypeStruct((4, 5), "float32"),
        (jax.ShapeDtypeStruct((7, 5), "float32"), jax.ShapeDtypeStruct((7,), "int32")),
        jax.ShapeDtypeStruct((), "int32"),
    ]
    equations = jax.make_jaxpr(neighbours._merge_block.__wrapped__)(*shapes).eqns
    sizes = [v.aval.size for e in equations for v in e.outvars]
    assert max(sizes) <= 7 * 5


def test_no_queries_have_no_neighbours():
    bank = np.ones((5, 3), np.float32)
    rows, cosines = neighbours.nearest(bank, bank[:0], 9)
    assert rows.shape == cosines.shape == (0, 5)
