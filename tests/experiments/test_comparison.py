"""What is computed from the rows, against hand-computed values."""

import copy
import re

import pytest
from rows import STEPS, comparison, rows_of
from scipy.stats import t

from byol_bnfree.diagnostics.verdict import judge
from experiments.collapse import outcome, probe_says, warnings
from experiments.comparison import Result, compare
from experiments.grid import Arm, load_experiment
from experiments.report.tables import accuracy_table
from experiments.scales import SCALES
from experiments.seeds import paired_difference, seeds_needed, spread

OPEN = "seeds cannot show whether gn_ws is more than 1 point behind. "


def test_spread_and_paired_difference_are_students():
    assert spread({0: 1.0, 1: 2.0, 2: 3.0}) == (2.0, 1.0, 3)
    assert spread({4: 5.0}) == (5.0, None, 1) and spread({}) is None
    a, b = {0: 3.0, 1: 5.0, 2: 7.0, 9: 0.0}, {0: 1.0, 1: 4.0, 2: 7.0, 8: 9.0}
    found = paired_difference(a, b)  # differences 2, 1, 0: mean 1, deviation 1
    half = 4.302653 / 3**0.5  # t of 2 degrees of freedom at 97.5 %
    assert found == pytest.approx((1.0, 1 - half, 1 + half, 3, 0))
    assert paired_difference({0: 1.0}, {0: 2.0}) == (-1.0, None, None, 1, 0)
    assert paired_difference({0: 1.0}, {1: 2.0}) is None


def test_the_answer_of_norm_comparison_says_how_far_behind():
    figures = {"bn": [0.40, 0.41, 0.42], "gn_ws": [0.395, 0.405, 0.415]}
    said = comparison("norm_comparison", figures).answer()
    assert "40.5 % and bn 41.0 %" in said and "0.5 points less" in said
    assert "over 3 seeds" in said and "gn_ws is not behind" in said
    missing = comparison("norm_comparison", {"bn": [0.4]}).answer()
    assert missing.startswith("Not answered yet: no run of gn_ws. 1 of the paper's")


def test_the_answer_of_norm_comparison_adds_the_pair_with_more_decay():
    figures = {"bn": [0.5, 0.5, 0.5], "gn_ws": [0.5, 0.5, 0.5], "bn_decay": [0.6, 0.6]}
    said = comparison("norm_comparison", figures).answer()
    assert "decay" not in said  # half a pair is no comparison
    assert "2 of the paper's 2 rows were run" in said and "CIFAR-10" in said
    figures["gn_ws_decay"] = [0.57, 0.58]
    both = comparison("norm_comparison", figures).answer()
    assert both.startswith(said.partition(" 2 of the paper's")[0])
    assert "longer runs, gn_ws_decay reaches 57.5 % and bn_decay 60.0 %" in both


def test_the_answer_of_heads_has_the_mean_of_each_depth():
    cells = [(a, b) for a in (1, 2, 3) for b in (1, 2, 3)]
    figures = {f"gn_ws-depth{a}{b}": [(10 * a + b) / 100] for a, b in cells}
    said = comparison("heads", figures | {"bn-depth11": [0.4]}).statements()
    assert said[0].startswith("gn_ws, means over the depths of the other head:")
    assert said[0].endswith(
        "have 21.0, 22.0, 23.0 %, and projectors 12.0, 22.0, 32.0 %."
    )
    # Of the paper's table: (61.9 + 71.5 + 71.4) / 3, and (61.9 + 65.0 + 65.7) / 3.
    assert "have 68.3, 69.9, 69.7 %, and projectors 64.2, 71.8, 71.9 %" in said[1]
    del figures["gn_ws-depth33"]
    assert "means over" not in comparison("heads", figures).answer()


def test_the_gains_over_lars_are_compared_seed_by_seed():
    """By hand: gains of 15, 16, 17 and of 10 points; half of 2.5 is 4.303 / sqrt(3)."""
    figures = {"bn": [0.5, 0.6, 0.7], "bn_lars": [0.4, 0.5, 0.6]}
    figures |= {"gn_ws": [0.5, 0.5, 0.5], "gn_ws_lars": [0.35, 0.34, 0.33]}
    said = comparison("norm_comparison", figures).answer()
    assert "Over LARS, gn_ws gains 16.0 points" in said
    assert "bn gains 10.0 points (95 % interval +10.0 to +10.0, paired over 3" in said
    assert "by +6.0 points (95 % interval +3.5 to +8.5, paired over 3 seeds)" in said
    del figures["bn_lars"]
    assert "Over LARS" not in comparison("norm_comparison", figures).answer()


@pytest.mark.parametrize(
    "gn_ws, said",
    [
        ([0.43, 0.44, 0.45], "gn_ws is ahead."),
        ([0.395, 0.405, 0.415], "gn_ws is not behind"),
        ([0.36, 0.37, 0.38], "gn_ws is behind by more than 1 point."),
        ([0.36, 0.405, 0.42], f"Three {OPEN}About 76 seeds could"),
        ([0.38, 0.405, 0.44], f"Three {OPEN}About"),  # level by its mean
        (
            [0.30],
            f"One {OPEN.replace('seeds', 'seed', 1)}At least three seeds are needed.",
        ),
    ],
)
def test_a_verdict_says_no_more_than_its_interval(gn_ws, said):
    figures = {"bn": [0.40, 0.41, 0.42], "gn_ws": gn_ws}
    found = comparison("norm_comparison", figures)
    assert said in found.answer()
    row = accuracy_table(found).rows[1]
    assert row[0] == "gn_ws"
    assert row[4] in said or (row[4] == "not decided yet" and "cannot show" in said)


def test_enough_seeds_would_decide_and_one_less_would_not():
    few = paired_difference({0: 1.0, 1: -4.0, 2: -1.5}, {0: 0.0, 1: 0.0, 2: 0.0})
    n, deviation = seeds_needed(few, 1.0), 2.5
    assert t.ppf(0.975, n - 1) * deviation / n**0.5 < 0.5
    assert t.ppf(0.975, n - 2) * deviation / (n - 1) ** 0.5 >= 0.5
    assert seeds_needed(few._replace(mean=-1.01), 1.0) is None


def test_the_answer_of_norm_placement_names_the_rows_that_differ():
    figures = {"bn-bn-bn": [0.4], "ln-ln-ln": [0.4], "none-none-none": ["collapsed"]}
    said = comparison("norm_placement", figures).answer()
    assert said.startswith(
        "In one seed, 2 of 3 rows that were run (the paper has 15) learn or"
    )
    assert "Learned here, unlike the paper: ln-ln-ln." in said and "none" not in said
    assert "Of 2 pairs of rows that the paper orders, 1 has the same order" in said
    assert (
        said.count("each arm has one seed") == 1
        and SCALES["cpu"].caveat_beside(300) in said
    )


def test_the_answer_of_initialization_follows_the_outcomes():
    def said(none, started):
        figures = {"none": [none], "none_data_init": [started], "gn_ws": [0.4]}
        return comparison("initialization", figures).answer()

    learns = "learns only with a data-dependent initialization"
    assert learns in said("collapsed", 0.4)
    assert "does not learn with either initialization" in said("collapsed", 0.28)
    assert "learns with the standard initialization" in said(0.4, 0.4)
    assert "none: diverged;" in said(None, 0.4)
    assert "In this seed" in said("collapsed", 0.4)
    assert said(0.4, 0.4).endswith(SCALES["cpu"].caveat_beside(1000))
    assert "Not decided yet: each arm has one seed" in said("collapsed", 0.4)
    figures = {"none": ["collapsed"] * 3, "none_data_init": [0.4, 0.4, 0.4]}
    repeated = comparison("initialization", figures).answer()
    assert f"Here a network without normalization {learns}." in repeated
    assert "decided" not in repeated
    figures["none_data_init"][1] = "collapsed"
    split = comparison("initialization", figures).answer()
    assert "Not decided yet, because seeds disagree: none_data_init." in split
    assert "Here it is not decided if a network without normalization learns" in split


def test_the_answers_along_an_axis_name_ends_and_best():
    figures = {"bn-256": [0.40], "bn-8": [0.30], "gn_ws-256": [0.4, 0.42]}
    said = comparison("batch_size", figures | {"gn_ws-8": [0.41, 0.41]}).answer()
    assert "bn goes from 40.0 % with 256 images to 30.0 % with 8" in said
    assert "One seed cannot show whether it falls by more than 1 point." in said
    assert "gn_ws goes from 41.0 % with 256 images to 41.0 % with 8" in said
    taus = {"bn-tau0": ["collapsed"], "bn-tau0.9": [0.4], "gn_ws-tau1": [0.3]}
    said = comparison("target_network", taus).answer()
    assert re.search(r"bn has [\d.]+ % at 0 \(collapsed\), 40.0 % at 0.9;", said)
    assert "Not decided yet: each arm has one seed" in said
    several = {"bn-tau0.99": [0.4, 0.41, 0.42], "bn-tau1": [0.31, 0.32, 0.32]}
    said = comparison("target_network", several).answer()
    assert "Compared with 0.99 (margin 1 point): bn is behind at 1." in said
    trials = {"bn-muon-0.04": [0.4], "bn-sgd-0.12": [0.3], "gn_ws-muon-0.04": [0.35]}
    said = comparison("recipe_search", trials).answer()
    assert "The best arm of bn is bn-muon-0.04 (40.0 % linear, 2 arms)" in said
    assert (
        "second is bn-sgd-0.12 (30.0 %). This order is not decided (one seed)" in said
    )


def test_means_of_few_survivors_rank_no_arm():
    trials = {
        "bn-muon-0.02": [0.56, 0.55, 0.56],
        "bn-muon-0.04": [0.58, None, None],
        "bn-sgd-0.12": [0.52, 0.53, None],
    }
    found = comparison("recipe_search", trials)
    said = found.answer()
    assert (
        "best arm of bn is bn-muon-0.02 (55.5 % linear, 2 arms, over 2 common" in said
    )
    cells = {row[0]: row[1] for row in accuracy_table(found).rows}
    assert cells["bn-muon-0.04"] == "58.0 (1 of 3)"
    assert cells["bn-sgd-0.12"] == "52.5 ± 0.7 (2 of 3)"
    few = {"bn-tau0.9": [0.6, None, None], "bn-tau1": [0.5, 0.5, None]}
    said = comparison("target_network", few).answer()
    assert (
        "bn has no accuracy at 0.9 (learned 1, diverged 2), 50.0 % at 1 (2 of" in said
    )
    pair = {"bn": [0.5, 0.5, 0.5], "gn_ws": [0.6, None, None]}
    said = comparison("norm_comparison", pair).answer()
    assert said.startswith(
        "Without an accuracy: gn_ws (learned 1, diverged 2). bn reaches 50.0 % in "
        "linear accuracy. Not decided yet."
    )


def test_an_arm_that_fails_in_every_seed_is_an_answer():
    pair = {"bn": [0.5, 0.5, 0.5], "gn_ws": [None, None, None]}
    found = comparison("norm_comparison", pair)
    assert found.answer().startswith(
        "Without an accuracy: gn_ws (diverged 3). bn reaches 50.0 % in linear "
        "accuracy. gn_ws is behind bn: it fails."
    )
    assert accuracy_table(found).rows[1][4] == "failed"
    one = comparison("norm_comparison", {"bn": [0.5], "gn_ws": [None]})
    assert "linear accuracy. Not decided yet." in one.answer()
    assert accuracy_table(one).rows[1][4] == "not decided yet"


def test_an_axis_without_its_end_does_not_say_that_nothing_falls():
    figures = {f"bn-{n}": [0.6, 0.6, 0.6] for n in (256, 32)}
    said = comparison("batch_size", figures).answer()
    assert "It does not fall by more than 1 point" in said
    said = comparison("batch_size", figures | {"bn-8": [None] * 3}).answer()
    assert "does not fall" not in said
    assert "Without an accuracy: bn-8 (diverged 3)." in said


def test_seeds_that_disagree_are_no_evidence_for_or_against_the_paper():
    figures = {
        "bn-bn-bn": [0.4, 0.4],
        "ln-ln-ln": [0.4, "collapsed"],
        "none-none-none": ["collapsed", "collapsed"],
    }
    said = comparison("norm_placement", figures).answer()
    assert said.startswith("2 of 2 rows that were decided (the paper has 15) learn or")
    assert "Not decided yet, because seeds disagree: ln-ln-ln." in said


def test_the_newest_row_counts_wherever_it_stands_and_a_stopped_one_after_others():
    experiment, scale = load_experiment("norm_comparison"), SCALES["cpu"]
    (new,) = rows_of(experiment, {"bn": [0.5]})
    old = new | {"time": "2020-01-01T00:00:00+00:00", "wall_seconds": 1.0}
    diverged = new | {"time": "2030-01-01T00:00:00+00:00", "summary": None}
    stopped = diverged | {"collapsed": True}
    for newer, counts in ((stopped, new), (diverged, diverged)):
        for rows in ([new, old, newer], [newer, old, new]):
            (taken,) = compare(experiment, scale, rows).rows
            assert taken is counts


def test_two_arms_are_compared_over_the_seeds_that_both_have():
    figures = {"bn": [0.40, 0.42, 0.80], "gn_ws": [0.41, 0.43]}
    said = comparison("norm_comparison", figures).answer()
    assert "gn_ws reaches 42.0 % and bn 41.0 % in linear accuracy, 1.0 points" in said
    ends = {"bn-256": [0.4, 0.4, 0.7], "bn-8": [0.3, 0.3]}
    said = comparison("batch_size", ends).answer()
    assert "from 40.0 % with 256 images to 30.0 % with 8, over 2 common seeds." in said
    assert "differ by at most 10.0 points" in said


def test_outcomes_are_of_the_measures_first_then_of_the_accuracy():
    experiment = load_experiment("norm_comparison")
    rows = rows_of(experiment, {"bn": ["collapsed", 0.28, None], "gn_ws": [0.3]})
    assert [outcome(row) for row in rows] == (
        ["collapsed", "did not learn", "diverged", "learned"]
    )


def test_a_run_that_learned_near_a_collapse_is_marked():
    (row,) = rows_of(load_experiment("norm_comparison"), {"bn": [0.4]})
    near = copy.deepcopy(row)
    near["summary"]["collapse"]["verdict"] = "drifting"
    arm = Arm("bn", ())
    assert Result(arm, {0: near}).counted == "learned (drifting)"
    several = Result(arm, {0: row, 1: near, 2: near})
    assert several.counted == "learned 1, learned (drifting) 2"
    assert several.learned and several.agreed
    back = copy.deepcopy(row)
    back["summary"]["collapse"] |= {"verdict": "healthy", "first_collapsed": 350}
    assert Result(arm, {0: back}).counted == "learned (collapsed at first)"
    near["summary"]["linear"]["trained"] = 0.1
    assert Result(arm, {0: near}).counted == "did not learn"


@pytest.mark.parametrize("start", [0.1, 0.27, 0.4, 0.57])
def test_a_gain_of_two_points_counts_wherever_it_starts(start):
    """Their difference as floats may be a little below 0.02."""
    (row,) = rows_of(load_experiment("norm_comparison"), {"bn": [0.4]})
    row["summary"]["linear"] = {"untrained": start, "trained": round(start + 0.02, 4)}
    assert outcome(row) == "learned"
    row["summary"]["linear"]["trained"] -= 1e-4
    assert outcome(row) == "did not learn"


@pytest.mark.parametrize(
    "linear, low, expected",
    [
        (0.48, {"negative_cosine": 1.0}, "learned"),
        (0.28, {"negative_cosine": 1.0}, "collapsed"),  # it learned nothing
        (0.48, {"feature_std": 0.001}, "collapsed"),
        (0.48, {"negative_cosine": 1.0, "centered_rank": 1.1}, "collapsed"),
    ],
)
def test_where_only_the_projections_collapsed_the_accuracy_decides(
    linear, low, expected
):
    measures = {"feature_std": 0.3, "negative_cosine": 0.2, "centered_rank": 20.0} | low
    reason = judge(measures).reason
    assert ("1 - negative_cosine" in reason) == ("feature_std" not in low)
    (row,) = rows_of(load_experiment("contrastive"), {"bn-plain-stop-beta0": [0.4]})
    row["summary"]["linear"]["trained"] = linear
    row["summary"]["collapse"] |= {"verdict": "collapsed", "reason": reason}
    for name, value in measures.items():
        row["curves"][f"collapse/{name}"] = [STEPS, [0.5, 0.5, 0.5, 0.5, value]]
    assert outcome(row) == expected


@pytest.mark.parametrize(
    "values, said",
    [
        ([0.1, 0.2, 0.3, 0.3], "never fell"),
        ([0.1, 0.3, 0.15, 0.12], "fell at step 2"),
        ([0.1, 0.3, 0.15, 0.28, 0.1], "fell at step 4"),
        ([0.1, 0.11, 0.1], "never rose, so it could not fall"),
        ([], "there was none"),
    ],
)
def test_the_probe_falls_when_it_loses_half_of_its_gain_for_good(values, said):
    curves = {"probe/top1": [list(range(len(values))), values]}
    assert probe_says({"curves": curves}) == said


STOPPED = "error: the representation collapsed at step 30 (feature_std 0.001 is ...)"


@pytest.mark.parametrize(
    "spread, collapsed, drifting, at",
    [
        # One row of the log in each point, so five points are enough.
        ([0.3, 0.04, 0.04, *[1e-3] * 5], STOPPED, 10, 30),
        ([0.3, 0.04, 0.04, *[1e-3] * 5], None, 10, 30),  # it diverged afterwards
        ([0.3, 0.04, 0.3, 0.3, 0.04, 0.3, 0.2, 0.3], None, None, None),
        ([1e-3] * 8, None, 1, 10),  # in the warm-up it may recover
        # Thinned: the run saw more rows than the curve has.
        ([0.3, 0.2, 0.2, 1e-3], STOPPED, 30, 30),
        ([0.3, 0.2, 1e-3], STOPPED.replace("30", "12"), 12, 12),
        ([0.3, 0.04, 0.3, None, 1e-3, 1e-3], STOPPED.replace("30", "35"), 35, 35),
    ],
)
def test_a_run_that_broke_off_says_when_its_measures_noticed(
    spread, collapsed, drifting, at
):
    steps = [1, *range(10, 10 * len(spread), 10)]
    curves = {
        "epoch": [steps, [step / 10 for step in steps]],
        "collapse/feature_std": [steps, spread],
        "collapse/negative_cosine": [steps, [0.3] * len(steps)],
    }
    config = {"optim": {"warmup_epochs": 1.0}}
    row = {"summary": None, "collapsed": collapsed, "curves": curves, "config": config}
    assert warnings(row) == {"drifting": drifting, "collapsed": at}
    assert warnings(row | {"curves": {}, "collapsed": None}) == dict.fromkeys(
        ("drifting", "collapsed")
    )


def test_rows_of_other_settings_are_left_out():
    experiment = load_experiment("norm_comparison")
    rows = rows_of(experiment, {"bn": [0.4, 0.5]})
    rows[0]["settings"] = "of an older recipe"
    found = compare(experiment, SCALES["cpu"], [*rows, rows[1] | {"seed": 1}])
    assert list(found.results["bn"].rows) == [1]
