"""Each row against the paper, computed from runs with figures of one's choice."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from rows import comparison, row, rows_of
from scipy.stats import t

from byol_bnfree.files import append_row
from experiments.comparison import compare
from experiments.decisions import MARGIN
from experiments.dense.arguments import FOLDER
from experiments.grid import load_experiment, make_runs
from experiments.places import Places
from experiments.report import state
from experiments.report.figures import along_axis
from experiments.report.heatmap import maps
from experiments.report.state import write_state
from experiments.report.tables import verdict_table
from experiments.report.write import write_report
from experiments.scales import SCALES
from experiments.seeds import Difference
from experiments.verdicts import best_row, is_on_side, orders, row_verdicts

RATES = ("0.033", "0.33", "0.67", "1", "1.3", "1.7", "3.3")
SEEDS = 0.001, 0.0, -0.001


def around(figure: float) -> list[float]:
    return [figure + noise for noise in SEEDS]


@pytest.mark.parametrize(
    "figures, word",
    [
        (around(0.40), "as in the paper"),  # paper: 67.4 against 72.5
        (around(0.46), "unlike the paper"),
        (around(0.48), "unlike the paper"),
        (["collapsed"] * 2, "unlike the paper"),
        (["collapsed"], "not decided yet"),
        (["collapsed", "collapsed", 0.40], "not decided yet"),
        ([0.40, 0.40, "collapsed"], "not decided yet"),
        ([0.40], "not decided yet"),
    ],
)
def test_a_row_that_learns_stands_on_a_side_of_its_reference(figures, word):
    found = comparison(
        "loss_normalization", {"bn-l2": around(0.46), "bn-none": figures}
    )
    rows = {row.arm.name: row for row in row_verdicts(found)}
    assert rows["bn-none"].word == word
    assert rows["bn-l2"].word == "reference"
    said = found.answer()
    names = " (bn-none)" if word == "unlike the paper" else ""
    assert "2 of the paper's 4 rows were run." in said
    assert f"Agreement with the paper: 1 {word}{names}. The other row is" in said


@pytest.mark.parametrize(
    "low, high, sides",  # of an interval; whether it is ahead, level, behind
    [
        (-0.3, 6.0, (None, None, None)),
        (17.0, 22.0, (True, False, False)),
        (0.1, 0.9, (True, True, False)),
        (-0.9, -0.1, (False, True, True)),
        (0.0, 0.0, (False, True, False)),
        (-3.0, -1.5, (False, False, True)),
        (-3.0, -0.5, (False, None, True)),
        (None, None, (None, None, None)),
    ],
)
def test_an_interval_stands_on_a_side_or_decides_nothing(low, high, sides):
    difference = Difference(0.0, low, high, 3)
    found = (is_on_side(difference, side) for side in ("ahead", "level", "behind"))
    assert tuple(found) == sides


def test_runs_without_an_accuracy_leave_the_answer_undecided():
    figures = {"bn": around(0.50), "gn_ws": [*around(0.60)[:2], None]}
    found = comparison("norm_comparison", figures)
    assert "It is not decided yet whether gn_ws" in found.answer()
    assert "1 run ended without an accuracy" in found.answer()
    whole = comparison("norm_comparison", figures | {"gn_ws": around(0.60)})
    assert "gn_ws is ahead." in whole.answer()


@pytest.mark.parametrize(
    "figures, word",
    [
        (["collapsed", None], "as in the paper"),
        ([None, None], "as in the paper"),
        ([0.4, 0.4], "unlike the paper"),
        (["collapsed"], "not decided yet"),
        ([0.4], "not decided yet"),
        ([0.4, "collapsed"], "not decided yet"),
    ],
)
def test_a_row_that_fails_in_the_paper_should_fail(figures, word):
    name = "bn-gradient"  # 0.3 %
    found = comparison("target_network", {name: figures})
    (row,) = row_verdicts(found)
    assert (row.arm.name, row.arm.paper, row.word) == (name, 0.3, word)


def stopped(reason: str, spread: float, name: str = "contrastive", **figures):
    """A run that --on-collapse=stop ended at step 20, and others."""
    steps = [[1, 20, 40], [0.3, spread, spread]]
    experiment = load_experiment(name)
    ended = {arm: [None] * len(v) for arm, v in figures.items() if "stopped" in v}
    rows = rows_of(
        experiment,
        ended,
        collapsed=f"error: the representation collapsed at step 20 ({reason} is below)",
        curves={"epoch": steps, "collapse/feature_std": steps},
    )
    rows += rows_of(experiment, {a: v for a, v in figures.items() if a not in ended})
    return compare(experiment, SCALES["cpu"], rows)


COSINE = "1 - negative_cosine 7.75e-07"


@pytest.mark.parametrize(
    "reason, spread, word",
    [
        (COSINE, 0.3, "not decided yet"),
        (COSINE, 0.001, "as in the paper"),
        ("feature_std 0.001", 0.001, "as in the paper"),
    ],
)
def test_projections_that_collapse_alone_decide_nothing(reason, spread, word):
    """The paper's figure is of the representation, of which there is no accuracy."""
    byol = {"bn-predictor-target-beta0": [0.5]}
    plain = {"bn-plain-gradient-beta0": ["stopped", "stopped"]}
    found = stopped(reason, spread, **byol, **plain)
    rows = {row.arm.name: row for row in row_verdicts(found)}
    assert rows["bn-plain-gradient-beta0"].word == word
    undecided = word == "not decided yet"
    assert orders(found) == ((0, 0) if undecided else (1, 1))
    count = "Agreement with the paper: 1 not decided yet."
    assert (count in found.answer()) is undecided


def test_answers_leave_projections_that_collapse_alone_open():
    rows = {"bn-bn-bn": [0.4], "none-none-none": ["stopped"]}
    said = stopped(COSINE, 0.3, "norm_placement", **rows).answer()
    assert said.startswith("In one seed, 1 of 1 rows that were decided (the paper has")
    assert "was stopped: none-none-none." in said
    rows = {"none": ["stopped"], "none_data_init": [0.4]}
    said = stopped(COSINE, 0.3, "initialization", **rows).answer()
    assert "it is not decided if a network without normalization learns" in said
    said = stopped("feature_std", 1e-3, "initialization", **rows).answer()
    assert "learns only with a data-dependent initialization" in said


@pytest.mark.parametrize("figure", [None, "collapsed", 0.5])
def test_a_row_that_the_paper_says_diverges_has_a_verdict(figure):
    """Weight decay 0 in Table 15b, which has no figure."""
    found = comparison("rates", {"bn-rate1-decay0": [figure] * 2})
    (row,) = row_verdicts(found)
    assert row.word == ("unlike the paper" if figure == 0.5 else "as in the paper")
    assert verdict_table(found).rows[0][:2] == ("bn-rate1-decay0", "fails")
    assert "1 of the paper's 12 rows was run" in found.answer()


def test_the_reference_of_simclrs_rows_is_simclrs_own():
    figures = {
        "bn-baseline": [0.60],
        "bn-simclr-baseline": [0.50],
        "bn-simclr-symmetric": [0.501],  # paper: 68.1 against 67.9
    }
    found = comparison("augmentation", figures)
    rows = {r.arm.name: r for r in row_verdicts(found)}
    assert rows["bn-simclr-symmetric"].why == "one seed: +0.2 points there, +0.1 here"


@pytest.mark.parametrize("scale, paper", [("cpu", 64.3), ("gpu30", 66.5)])
def test_simclrs_smaller_batches_are_compared_with_its_own_largest(scale, paper):
    arms = load_experiment("batch_size").arms(SCALES[scale])
    (first,) = (arm for arm in arms if "bn-simclr-batch" in arm.starts)
    assert (first.x, first.paper) == (SCALES[scale].batch_size, paper)
    figures = {"bn-256": [0.56], "bn-simclr-256": [0.60], "bn-simclr-batch-64": [0.50]}
    found = comparison("batch_size", figures)
    rows = {r.arm.name: r.why for r in row_verdicts(found)}
    assert rows["bn-simclr-batch-64"] == "one seed: -5.1 points there, -10.0 here"
    curve = found.families()["bn-simclr-batch"]
    assert [result.arm.x for result in curve] == [256, 64]
    text = along_axis(found).svg.decode()
    assert text.count(">BYOL<") == text.count(">SimCLR<") == 1


def test_the_drops_of_byol_and_simclr_are_compared_row_by_row():
    figures = {
        "bn-baseline": [0.60],
        "bn-crop": [0.50],
        "bn-no_flip": [0.40],
        "bn-no_blur": [0.55],
        "bn-no_colour": [None],
        "bn-simclr-baseline": [0.70],
        "bn-simclr-crop": [0.55],  # 15 points; BYOL loses 10
        "bn-simclr-no_flip": [0.60],  # 10 points; BYOL loses 20
        "bn-simclr-no_blur": [None],
        "bn-simclr-no_colour": [None],  # both failed, so neither lost less
        "gn_ws-crop": [0.5],  # without a baseline
    }
    said = comparison("augmentation", figures).answer()
    assert "by the means: bn loses less than bn-simclr in 2 of 3 rows. " in said
    batch = {"bn-256": [0.5], "bn-batch-8": [0.4], "bn-simclr-256": [0.5]}
    found = comparison("batch_size", batch | {"bn-simclr-batch-8": [0.3]})
    said = "bn-batch loses less than bn-simclr-batch in 1 of 1 row."
    assert said in found.answer()
    none = comparison("augmentation", {"bn-crop": [0.5]})
    assert "No further row was run with both BYOL and SimCLR" in none.answer()


@pytest.mark.parametrize("crop", [[0.5, None, None], ["collapsed", "collapsed", None]])
def test_an_arm_of_which_most_runs_are_lost_has_lost_everything(crop):
    figures = {"bn-crop": crop, "bn-simclr-crop": [0.5, 0.5, 0.5]}
    starts = {name: [0.6, 0.6, 0.6] for name in ("bn-baseline", "bn-simclr-baseline")}
    said = comparison("augmentation", starts | figures).answer()
    assert "bn loses less than bn-simclr in 0 of 1 row." in said


def test_drops_and_orders_are_of_common_seeds():
    """The last seed is an easy one. Only some of the arms have it."""
    figures = {
        "bn-baseline": [0.60, 0.60, 0.90],
        "bn-crop": [0.50, 0.50, None],  # 10 points below, not 20
        "bn-simclr-baseline": [0.60, 0.60],
        "bn-simclr-crop": [0.45, 0.45],
    }
    found = comparison("augmentation", figures)
    assert "bn loses less than bn-simclr in 1 of 1 row." in found.answer()
    rows = {"bn-l2": [0.50], "bn-none": [0.40, 0.70], "bn-batchnorm": [0.30]}
    found = comparison("loss_normalization", rows)
    assert orders(found) == (3, 3)
    assert "rows, bn-l2 and bn-none have the highest" in best_row(found)
    two = {name: rows[name] for name in ("bn-l2", "bn-none")}
    assert best_row(comparison("loss_normalization", two)) == ""
    rows = rows_of(load_experiment("loss_normalization"), {"bn-none": [None, 0.7]})
    rows += rows_of(load_experiment("loss_normalization"), {"bn-l2": [0.5]})
    found = compare(load_experiment("loss_normalization"), SCALES["cpu"], rows[1:])
    assert orders(found) == (0, 0) and "no seed in common" in best_row(found)


def test_an_answer_of_two_sentences_warns_once():
    figures = {"bn-tau0.99": [0.56], "bn-tau1": [0.40], "gn_ws-tau0.99": [0.55]}
    said = comparison("target_network", figures).answer()
    assert said.count("Not decided yet: each arm has one seed") == 1
    assert "2 of the paper's 7 rows were run." in said
    assert "paper: 1 not decided yet. The other row is the reference." in said


def test_a_reference_alone_agrees_with_nothing():
    said = comparison("target_network", {"bn-tau0.99": [0.56]}).answer()
    assert "1 of the paper's 7 rows was run. The row is the reference." in said


def test_answers_beside_the_paper_warn_of_single_seeds_and_carry_the_caveat():
    """Of arms that the paper's table does not have."""
    names = [
        f"gn_ws{kind}-{row}" for kind in ("", "-simclr") for row in ("baseline", "crop")
    ]
    said = comparison("augmentation", {name: [0.5] for name in names}).answer()
    assert "no row of the paper's table was run" in said
    assert "each arm has one seed" in said and SCALES["cpu"].caveat_beside(300) in said
    three = {name: around(0.5) for name in names}
    assert "one seed" not in comparison("augmentation", three).answer()
    said = comparison("views", {"gn_ws-2": [0.5], "gn_ws-4": [0.6]}).answer()
    assert "The best arm of gn_ws is gn_ws-4" in said
    assert SCALES["cpu"].caveat_beside(300) in said


def test_short_runs_of_byol_say_that_a_frozen_target_was_ahead():
    short = SCALES["cpu4"].caveat_beside(300)
    assert "4 epochs" in short and "frozen target was ahead" in short
    for said in (
        SCALES["cpu4"].caveat_beside(300, byol=False),
        SCALES["cpu8"].caveat_beside(300),
    ):
        assert "frozen" not in said and "fails late in 300 epochs" in said


def test_pairs_are_counted():
    figures = {
        "bn-l2": [0.5],
        "bn-layernorm": [0.4],
        "bn-none": [0.45],
        "bn-batchnorm": [0.3],
    }
    found = comparison("loss_normalization", figures)
    assert orders(found) == (4, 5)  # l2 and layernorm have no order in the paper
    said = found.answer()
    assert "Of 5 pairs of rows that the paper orders, 4 have the same order" in said
    assert SCALES["cpu"].caveat_beside(300) in said and "each arm has one seed" in said


FIRST = "Of the paper's rows, bn-l2 and bn-layernorm have the highest means here."
OPEN = f"{FIRST} This order is not decided"


@pytest.mark.parametrize(
    "best, second, said",
    [
        (around(0.50), around(0.45), "row here, bn-l2, is also one of the paper's"),
        ([0.50, 0.51, 0.46], [0.45, 0.45, 0.45], f"{OPEN} (three seeds)."),
        (around(0.50), [None, 0.42, 0.42], f"{OPEN} (two seeds)."),
        ([0.50], [0.45], f"{FIRST} Not decided yet, with one seed:"),
    ],
)
def test_a_best_row_is_named_only_if_its_lead_is_decided(best, second, said):
    figures = {"bn-none": around(0.40), "bn-layernorm": second, "bn-l2": best}
    assert said in comparison("loss_normalization", figures).answer()


def test_a_best_row_is_ahead_of_every_other_and_not_of_the_second_alone():
    """The third row varies so much that it may be the best."""
    figures = {
        "bn-l2": [0.600, 0.601, 0.599],
        "bn-layernorm": [0.589, 0.590, 0.588],
        "bn-none": [0.57, 0.64, 0.50],
    }
    said = best_row(comparison("loss_normalization", figures))
    assert said.endswith("This order is not decided (three seeds).")
    trials = {
        f"bn-muon-{rate}": values
        for rate, values in zip((0.02, 0.04, 0.08), figures.values(), strict=True)
    }
    said = comparison("recipe_search", trials).answer()
    assert "This order is not decided (three seeds)." in said
    trials["bn-muon-0.08"] = [None, None, None]
    said = comparison("recipe_search", trials).answer()
    assert "This order is decided. Without an accuracy: bn-muon-0.08 (diverged 3)." in (
        said
    )


BYOL, STOP, GRADIENT = (
    f"bn-predictor-{target}-beta0" for target in ("target", "stop", "gradient")
)


@pytest.mark.parametrize(
    "figures, expected",
    [
        ({BYOL: [0.5], STOP: [None]}, (1, 1)),
        ({BYOL: [None], STOP: [0.5]}, (0, 1)),
        ({BYOL: [None], STOP: [None]}, (0, 0)),
        ({BYOL: ["collapsed"], STOP: [None]}, (0, 0)),
        # 5.5 and 0.3 in the paper: both fail there, so they have no order.
        ({STOP: [0.4], GRADIENT: [0.3]}, (0, 0)),
        ({STOP: [None], GRADIENT: [None], BYOL: [0.5]}, (2, 2)),
        # Most runs failed, so the accuracy of the last is not the row's.
        ({BYOL: [None, None, 0.6], STOP: [0.5]}, (0, 1)),
    ],
)
def test_a_row_that_failed_without_an_accuracy_is_behind_those_that_learned(
    figures, expected
):
    assert orders(comparison("contrastive", figures)) == expected


def test_a_best_row_of_the_paper_that_failed_here_is_not_forgotten():
    figures = {"bn-l2": [None], "bn-layernorm": [None], "bn-none": [0.5]}
    said = best_row(comparison("loss_normalization", figures))
    assert said == "Of the paper's rows, bn-none has the highest mean here."
    twice = {name: 2 * values for name, values in figures.items()}
    said = best_row(comparison("loss_normalization", twice))
    assert said == "The best row here, bn-none, is not one of the paper's best."
    assert best_row(comparison("loss_normalization", {"bn-l2": [None]})) == ""


def test_rows_without_a_figure_of_the_paper_have_no_verdict():
    found = comparison("loss_normalization", {"gn_ws-l2": [0.5]})
    assert verdict_table(found) is None and "no row" in found.answer()


def test_settings_are_mapped_for_each_norm_and_the_paper():
    figures = {"bn-rate1-decay1": [0.5], "gn_ws-rate1-decay1": [0.52]}
    (drawn,) = maps(comparison("rates", figures))
    text = drawn.svg.decode()
    for word in ("bn, here", "gn_ws, here", "the paper", "50.0", "52.0", "34.8"):
        assert word in text
    assert text.count(">x<") == 1  # decay 0 diverges in the paper
    figures = {"bn-rate1-decay1": [None], "bn-rate1-decay5": [None, 0.4]}
    figures["bn-rate1-decay10"] = [None, 0.4, 0.4]
    (drawn,) = maps(comparison("rates", figures))
    assert drawn.svg.decode().count(">x<") == 3 and "An x is an arm" in drawn.caption


def images(figures: dict[str, list], monkeypatch) -> list:
    """Draw the maps of `rates`; return their pictures, the paper's last."""
    drawn, imshow = [], Axes.imshow

    def spy(axis, *values, **style):
        drawn.append(imshow(axis, *values, **style))
        return drawn[-1]

    monkeypatch.setattr(Axes, "imshow", spy)
    maps(comparison("rates", figures))
    return drawn


@pytest.mark.parametrize(
    "figures, span", [((0.409, 0.423), (39.1, 44.1)), ((0.3, 0.4), (30, 40))]
)
def test_our_maps_share_colours_in_which_small_differences_are_small(
    figures, span, monkeypatch
):
    names = ("bn-rate1-decay1", "gn_ws-rate1-decay1")
    drawn = images({k: [x] for k, x in zip(names, figures, strict=True)}, monkeypatch)
    bn, gn_ws, paper = (found.get_clim() for found in drawn)
    assert bn == gn_ws == pytest.approx(span) and paper == (34.8, 72.6)


def test_a_lone_figure_has_the_colour_of_the_middle(monkeypatch):
    lone, _ = images({"bn-rate1-decay1": [0.4]}, monkeypatch)
    assert lone.norm(40.0) == pytest.approx(0.5)


def test_every_figure_of_a_map_can_be_read(monkeypatch):
    """WCAG asks for a contrast of 4.5."""
    figures = {f"bn-rate{r}-decay1": [0.3 + i / 50] for i, r in enumerate(RATES)}
    picture = images(figures, monkeypatch)[0]
    assert len(picture.axes.texts) == len(figures)
    for text in picture.axes.texts:
        r, g, b, _ = picture.to_rgba(float(text.get_text()))
        light = 0.213 * r**2.2 + 0.715 * g**2.2 + 0.072 * b**2.2 + 0.05
        white = text.get_color() == "white"
        assert (1.05 / light if white else light / 0.05) > 4.5, text.get_text()


def test_the_map_of_the_paper_has_its_own_unit_and_small_figures():
    (drawn,) = maps(comparison("rates", {"bn-rate1-decay1": [0.5]}))
    text = drawn.svg.decode()
    for unit in ("units of 0.1 (bn) or 0.02 (gn_ws)", "units of 1e-06"):
        assert text.count(f">weight decay, in {unit}<") == 1
    (drawn,) = maps(comparison("predictor", {"bn-projector1-predictor1": [0.5]}))
    assert ">0.01<" in drawn.svg.decode() and ">0.0<" not in drawn.svg.decode()


@pytest.mark.parametrize("name", ["contrastive", "heads", "predictor", "rates"])
def test_every_experiment_over_two_settings_is_mapped(name):
    cells = [arm for arm in load_experiment(name).arms(SCALES["cpu"]) if arm.cell]
    assert len(maps(comparison(name, {cells[0].name: [0.5]}))) == 1


def test_a_report_has_the_verdicts_and_a_page_the_state_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(state, "GRIDS", ("target_network", "loss_normalization"))
    experiment = load_experiment("target_network")
    figures = {"bn-tau0.99": [0.5], "bn-gradient": ["collapsed"], "bn-tau0": [0.4]}
    figures["bn-gradient"] *= 2
    stopped = {"bn-stop_gradient": [None]}
    for found in (
        *rows_of(experiment, figures),
        *rows_of(experiment, stopped, collapsed="at step 3"),
    ):
        append_row(tmp_path / "target_network" / "results.jsonl", found)
    write_report(experiment, tmp_path)
    text = (tmp_path / "target_network" / "report.md").read_text()
    assert "| bn-gradient | 0.3 | as in the paper | fails here (collapsed)" in text
    assert "| bn-tau0 | 0.3 | not decided yet | one seed: learns here" in text
    # The rows count, although no work folder is there: 4 of 14, two of them collapsed.
    # One of those was stopped, so a grid without --stop-collapsed goes on with it.
    for stop, finished in ((True, 4), (False, 3)):
        places = Places(tmp_path, tmp_path, None, stop_collapsed=stop)
        page = write_state(SCALES["cpu"], (0,), places).read_text()
        plain = re.sub(r"<[^>]+>", " ", page).replace("&nbsp;", " ")
        line = " ".join(plain[plain.index("target_network") :].split())
        assert re.match(rf"target_network {finished} 14 0 2 0 2\.\d h ", line)
        # Its bn-l2 is bn-tau0.99, which a grid copies.
        assert "loss_normalization 1 8 0 0 0" in line
        assert "Its finished runs are those of other experiments. Its command" in line
        assert "bn-l2 0 finished learned 50.0" in line
        assert "dense 0 66 ? At no scale" in line
        assert "A run that was stopped at its collapse counts as collapsed" in plain
    page = write_state(SCALES["smoke"], (0,), places).read_text()
    assert re.search(r"\d&nbsp;min", page) and not re.search(r"\d&nbsp;h\b", page)


def test_the_state_of_all_says_where_nothing_is_left_to_measure(tmp_path):
    (tmp_path / "dense").mkdir()
    shutil.copy(FOLDER / "results.jsonl", tmp_path / "dense")
    page = write_state(SCALES["cpu"], (0,), Places(tmp_path, tmp_path, None))
    plain = re.sub(r"<[^>]+>", " ", page.read_text()).replace("&nbsp;", " ")
    line = " ".join(plain[plain.index("dense") :].split())
    assert line.startswith("dense 66 66 0 min At no scale")


def test_each_scale_of_a_report_has_its_own_figures(tmp_path):
    experiment = load_experiment("target_network")
    file = tmp_path / experiment.name / "results.jsonl"
    for name, arm in (("cpu", "bn-tau0.9"), ("cpu30", "bn-tau0.99")):
        (run,) = (r for r in make_runs(experiment, SCALES[name], (0,)) if r.arm == arm)
        append_row(file, row(run, 0.5))
    write_report(experiment, tmp_path)
    text = (file.parent / "report.md").read_text()
    for name, arm in (("cpu", "bn-tau0.9"), ("cpu30", "bn-tau0.99")):
        assert f"(figures/{name}_accuracy.svg)" in text
        drawn = (file.parent / "figures" / f"{name}_accuracy.svg").read_text()
        assert f"{arm}<" in drawn


def test_the_page_says_what_repeated_looks_cost():
    """The share of arms that are 1 point behind and are called not behind."""
    drawn = np.random.default_rng(0).normal(-MARGIN, 1, (40_000, 14))
    wrong = np.zeros((15, len(drawn)), bool)
    for n in range(3, 15):
        seen = drawn[:, :n]
        half = t.ppf(0.975, n - 1) * seen.std(1, ddof=1) / n**0.5
        wrong[n] = seen.mean(1) - half >= -MARGIN
    shares = (100 * wrong[list(looks)].any(0).mean() for looks in ([3], [3, 4]))
    three, four, many = *shares, 100 * wrong.any(0).mean()
    page = (Path(__file__).parents[2] / "docs/comparison.md").read_text()
    words = " ".join(page.split())
    assert f"*not behind* in {three:.1f} % of all cases" in words
    assert f"The share is {four:.1f} %" in words and f"and {many:.0f} % if you" in words
