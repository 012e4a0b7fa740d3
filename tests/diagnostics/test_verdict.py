"""A run is called collapsed when, and only when, its representation is lost."""

import functools

import jax
import numpy as np
import pytest

from byol_bnfree.diagnostics.collapse import centered_rank, collapse_measures
from byol_bnfree.diagnostics.verdict import (
    COLLAPSED,
    DRIFTING,
    CollapseWatch,
    judge,
    update_watch,
)

HEALTHY = {"feature_std": 0.6, "negative_cosine": 0.3, "centered_rank": 30.0}
SHRUNK = {"feature_std": 0.03, "negative_cosine": 0.9995, "centered_rank": 12.0}
LOST = {"feature_std": 1e-4, "negative_cosine": 0.9999999, "centered_rank": 9.0}


@jax.jit
def measured(rows):
    rank = {"centered_rank": centered_rank(rows)}
    return collapse_measures(rows, rows, rows) | rank


def measure(rows):
    found = measured(rows.astype(np.float32))
    return {name: float(value) for name, value in found.items()}


def normal(seed=0):
    return np.random.default_rng(seed).normal(size=(64, 32))


def watched(rows, **settings):
    def add(watch, row):
        return update_watch(watch, row[0] * 10, row[1], **settings)

    return functools.reduce(add, enumerate(rows), CollapseWatch())


def test_equal_representations_are_collapsed():
    rows = normal()[:1] + 1e-6 * normal(seed=1)
    assert judge(measure(rows)).state == "collapsed"


def test_rich_representations_with_a_large_offset_are_not_collapsed():
    # As of an untrained network without batch statistics: cosines are above 0.99.
    values = measure(15 + normal())
    assert values["negative_cosine"] > 0.99
    assert judge(values, untrained=values).state == "healthy"


def test_variation_along_one_direction_is_collapsed():
    rows = 1 + normal()[:, :1] * normal(seed=1)[:1]
    verdict = judge(measure(rows))
    assert verdict.state == "collapsed"
    assert "centered_rank" in verdict.reason


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({}, "healthy"),
        ({"feature_std": 0.15}, "drifting"),
        ({"feature_std": 1e-3}, "collapsed"),
        ({"negative_cosine": 0.99}, "drifting"),
        ({"negative_cosine": 0.999999}, "collapsed"),
        ({"centered_rank": 2.5}, "drifting"),
        ({"centered_rank": 1.2}, "collapsed"),
    ],
)
def test_each_measure_has_limits_that_the_reason_names(changed, state):
    verdict = judge(HEALTHY | changed, untrained=HEALTHY)
    assert verdict.state == state
    assert all(name in verdict.reason for name in changed)


def test_spread_is_compared_with_that_of_the_untrained_network():
    assert judge(SHRUNK, untrained=SHRUNK).state == "healthy"
    for name in ("feature_std", "negative_cosine"):
        start = SHRUNK | {name: HEALTHY[name]}
        assert judge(SHRUNK, untrained=start).state == "drifting"


def test_spread_is_compared_with_fixed_limits_where_the_untrained_is_not_known():
    assert judge(SHRUNK).state == "drifting"
    assert judge(SHRUNK | {"feature_std": 0.06}).state == "healthy"


@pytest.mark.parametrize("name", ["feature_std", "centered_rank"])
def test_a_value_at_a_limit_is_not_below_it(name):
    assert judge(HEALTHY | {name: COLLAPSED[name]}).state == "drifting"
    assert judge(HEALTHY | {name: DRIFTING[name]}).state == "healthy"


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_value_that_is_not_known_says_nothing(value):
    assert judge({"feature_std": value, "negative_cosine": value}).state == "healthy"
    assert judge({"feature_std": 1e-4, "negative_cosine": value}).state == "collapsed"


def test_a_short_shrinkage_is_not_reported():
    assert watched([HEALTHY] + 2 * [LOST], patience=3).verdict.state == "healthy"


def test_a_lasting_one_is_reported_from_its_first_row():
    watch = watched([HEALTHY, SHRUNK, LOST, LOST, LOST], patience=3)
    assert watch.verdict.state == "collapsed"
    assert (watch.first_drifting, watch.first_collapsed) == (10, 20)


def test_one_healthy_row_starts_the_count_again():
    watch = watched([LOST, LOST, HEALTHY, LOST, LOST], patience=3)
    assert watch.verdict.state == "healthy"
    assert watch.first_collapsed is None


def test_a_recovered_run_is_healthy_and_keeps_its_record():
    watch = watched(3 * [SHRUNK] + [HEALTHY], patience=3)
    assert watch.verdict.state == "healthy"
    assert (watch.first_drifting, watch.first_collapsed) == (0, None)
    again = watched(3 * [SHRUNK] + [HEALTHY] + 3 * [SHRUNK], patience=3)
    assert (again.verdict.state, again.first_drifting) == ("drifting", 0)


def test_rows_of_the_warm_up_are_not_called_collapsed():
    watch = watched(6 * [LOST], patience=3, warmup_steps=40)
    assert watch.verdict.state == "drifting"
    watch = watched(7 * [LOST], patience=3, warmup_steps=40)
    assert (watch.verdict.state, watch.first_collapsed) == ("collapsed", 40)


def test_a_reason_counts_the_rows_that_it_speaks_of():
    almost = watched([SHRUNK, SHRUNK, SHRUNK, LOST], patience=3).verdict
    assert almost.state == "drifting" and almost.reason.endswith("(1 row so far)")
    before = watched(4 * [LOST], patience=3, warmup_steps=40).verdict
    assert before.state == "drifting" and "so far" not in before.reason
    shrunk = watched([HEALTHY, SHRUNK, SHRUNK], patience=3).verdict
    assert shrunk.state == "healthy" and shrunk.reason.endswith("(2 rows so far)")


def test_a_log_read_again_gives_the_same_watch_as_one_never_left():
    rows = [HEALTHY, SHRUNK, LOST, LOST, LOST, LOST]
    resumed = watched(rows[:3])
    for i, row in enumerate(rows[3:], start=3):
        resumed = update_watch(resumed, i * 10, row)
    assert resumed == watched(rows)
