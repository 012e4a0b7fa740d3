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
def test_a_case_has_its_cost_in_the_readme_or_is_said_to_lack_it(case):
    timed = {row["views"] for row in json.loads((HERE / "cost.json").read_text())}
    (row,) = (
        line
        for line in (HERE / "README.md").read_text().splitlines()
        if line.startswith(f"| {case} |")
    )
    assert ("not timed yet" in row) == (case not in timed)
