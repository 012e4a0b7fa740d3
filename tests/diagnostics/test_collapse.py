"""Measures of collapse on constructed batches, where the answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from byol_bnfree.diagnostics import collapse

B, D = 16, 8  # one shape almost everywhere: each new one costs a compilation


@jax.jit
def measured(rows):
    """All measures; the two projections are the rows themselves."""
    return collapse.collapse_measures(rows, rows, rows) | {
        "rank": collapse.effective_rank(rows),
        "centered_rank": collapse.centered_rank(rows),
    }


def measure(rows):
    return {name: float(value) for name, value in measured(jnp.asarray(rows)).items()}


def normal(b=B, d=D, seed=0):
    rows = np.random.default_rng(seed).normal(size=(b, d))
    return rows.astype(np.float32)


def test_identical_rows_have_no_spread_and_rank_one():
    found = measure(np.tile(normal(1), (B, 1)))
    assert found["feature_std"] < 1e-6
    assert found["rank"] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_orthogonal_rows_have_full_rank(scale):
    found = measure(scale * np.eye(D, dtype=np.float32))
    assert found["rank"] == pytest.approx(D, rel=1e-4)


def test_points_spread_evenly_over_the_sphere_have_deviation_one():
    found = measure(np.concatenate([np.eye(D), -np.eye(D)]).astype(np.float32))
    assert found["feature_std"] == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("name", ["feature_std", "centered_rank"])
def test_measures_of_directions_do_not_depend_on_the_lengths_of_rows(name):
    lengths = np.arange(1, B + 1, dtype=np.float32)[:, None]
    expected = measure(normal())[name]
    assert measure(normal() * lengths)[name] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("b", [2, 7, B])
def test_cosines_equal_brute_force(b):
    z1, z2 = normal(b), normal(b, seed=1) + np.float32(0.5)
    unit1, unit2 = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (z1, z2))
    cosine = unit1 @ unit2.T
    found = jax.jit(collapse.collapse_measures)(normal(b), z1, z2)
    positive, others = np.trace(cosine) / b, cosine[~np.eye(b, dtype=bool)].mean()
    np.testing.assert_allclose(found["positive_cosine"], positive, atol=1e-6)
    np.testing.assert_allclose(found["negative_cosine"], others, atol=1e-6)


@pytest.mark.parametrize("shape", [(B, D), (D, B)])
def test_effective_rank_equals_its_definition(shape):
    rows = normal(*shape) * np.float32(0.6) ** np.arange(shape[1], dtype=np.float32)
    singular = np.linalg.svd(rows, compute_uv=False)
    share = singular / singular.sum()
    expected = np.exp(-np.sum(share * np.log(share)))
    assert measure(rows)["rank"] == pytest.approx(expected, rel=1e-3)


def test_effective_rank_counts_small_singular_values_beside_a_large_mean_as_0():
    """With rows that differ by 2 % of their mean, RankMe is about 6."""
    rows = np.random.default_rng(0).normal(1, 0.02, (256, 512)).astype("float32")
    singular = np.linalg.svd(rows.astype("float64"), compute_uv=False)
    share = singular / singular.sum()
    assert np.exp(-np.sum(share * np.log(share))) > 5
    assert collapse.effective_rank(jnp.asarray(rows)) < 1.01
    assert collapse.centered_rank(jnp.asarray(rows)) > 200


def test_rounding_does_not_add_to_the_rank():
    rows = np.outer(normal(1, 256), normal(1, 256, seed=1))
    assert jax.jit(collapse.effective_rank)(rows) < 1.001


def test_only_centered_rank_sees_variation_around_a_large_common_offset():
    found = measure(1000 + normal())
    assert found["rank"] < 1.1
    assert found["centered_rank"] > 5


def test_variation_along_one_direction_has_centered_rank_below_two():
    for offset in (0, 1, 100):
        found = measure(offset + normal(B, 1) * normal(1, D, seed=1))
        assert found["centered_rank"] < 2


def test_rank_is_of_the_first_rows_only():
    rows = np.concatenate([np.ones((4, D)), normal(4)]).astype(np.float32)
    assert collapse.effective_rank(jnp.asarray(rows), max_rows=4) < 1.001


def test_zero_representations_have_no_spread_and_rank_zero():
    assert set(measure(np.zeros((B, D), np.float32)).values()) == {0.0}


def test_too_small_a_batch_is_not_measured():
    found = measure(normal(1))
    for name in ("feature_std", "negative_cosine", "centered_rank"):
        assert np.isnan(found[name])
    assert found["positive_cosine"] == pytest.approx(1)


@pytest.mark.parametrize("rows, known", [(15, False), (16, True)])
def test_the_centered_rank_needs_sixteen_rows(rows, known):
    assert np.isfinite(collapse.centered_rank(jnp.asarray(normal(rows)))) == known


def test_not_a_number_stays_visible():
    rows = normal()
    rows[3, 2] = np.nan
    assert all(np.isnan(value) for value in measure(rows).values())


def test_bfloat16_is_measured_in_float32():
    rows = jnp.asarray(normal(), jnp.bfloat16)
    expected = measured(rows.astype(jnp.float32))
    for name, value in measured(rows).items():
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, expected[name], rtol=1e-5)


def test_a_batch_over_two_devices_measures_like_one():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    split = jax.device_put(normal(), NamedSharding(mesh, PartitionSpec("data")))
    expected = measure(normal())
    for name, value in measured(split).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5)
