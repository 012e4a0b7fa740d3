"""The comparison of several views covers what it says, and hides nothing untimed."""

import itertools
import json
from pathlib import Path

import pytest

from experiments.grid import load_experiment
from experiments.scales import SCALES
from experiments.views.timing import CASES

HERE = Path(__file__).parents[2] / "experiments/views"


@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_two_to_four_views_are_compared_with_and_without_small_ones(norm):
    arms = load_experiment("views").arms(SCALES["cpu"])
    expected = {
        f"{norm}-{count}{small}"
        for count, small in itertools.product((2, 3, 4), ("", "+4small"))
    }
    assert {arm.name for arm in arms if arm.family == norm} == expected


@pytest.mark.parametrize("case", CASES)
def test_the_costs_of_a_case_in_the_readme_are_those_that_were_measured(case):
    found = {
        row["norm"]: f"{row['time_ratio']:.2f} | {row['memory_ratio']:.2f}"
        for row in json.loads((HERE / "cost.json").read_text())
        if row["views"] == case
    }
    line = f"| {case} | {found['bn']} | {found['gn_ws']} |"
    assert line in (HERE / "README.md").read_text().splitlines()
