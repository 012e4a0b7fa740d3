"""BatchNorm's running statistics go on with another decay, and read as before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byol_bnfree.models.batch_norm import BatchNorm
from byol_bnfree.training.running_stats import settled, with_decay

LAYER, KEY = BatchNorm(), jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).normal(2.0, 3.0, (3, 8, 2)), jnp.float32)


def updated(variables: dict, x) -> dict:
    return variables | LAYER.apply(variables, x, True, mutable=["batch_stats"])[1]


@pytest.fixture
def started() -> dict:
    """After one update, when the correction for the zero start is tenfold."""
    return updated(LAYER.init(KEY, IMAGES[0], False), IMAGES[0])


def test_settled_statistics_normalize_as_before(started):
    other = started | {"batch_stats": settled({"n": started["batch_stats"]})["n"]}
    before, after = (LAYER.apply(v, IMAGES[1], False) for v in (started, other))
    np.testing.assert_allclose(before, after, rtol=1e-5)
    fresh = LAYER.init(KEY, IMAGES[0], False)["batch_stats"]
    assert settled(fresh)["var"].tolist() == [1.0, 1.0]


def test_a_decay_is_that_of_a_moving_average(started):
    stats = settled(started["batch_stats"])
    after = updated(started | {"batch_stats": stats}, IMAGES[1])["batch_stats"]
    moved = with_decay({"n": stats}, {"n": after}, 0.75)["n"]
    expected = 0.75 * IMAGES[0].mean(0) + 0.25 * IMAGES[1].mean(0)
    np.testing.assert_allclose(moved["mean"], expected, rtol=1e-5)
    np.testing.assert_allclose(with_decay(stats, after, 0.9)["var"], after["var"])


def test_statistics_of_other_modules_pass_unchanged():
    foreign = {"layer": {"mean": jnp.ones(2)}}
    assert settled(foreign) == foreign
    assert with_decay(foreign, {"layer": {"mean": 2}}, 0.5) == {"layer": {"mean": 2}}
