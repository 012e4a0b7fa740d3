"""The pages that commands make from results: each figure with its conditions."""

import json
import re
from pathlib import Path

import pytest
from rows import rows_of

from byol_bnfree.errors import InputError
from byol_bnfree.files import append_row, read_rows
from experiments import GRIDS
from experiments.grid import load_experiment
from experiments.pages.blocks import (
    Section,
    Table,
    Text,
    table_markdown,
    to_markdown,
)
from experiments.pages.marks import between, filled
from experiments.report import expect, results
from experiments.report.conditions import run_command
from experiments.report.finished_runs import Run, read_runs, value_at
from experiments.report.write import readme_results
from experiments.results import FEW_POINTS, POINTS, curves

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
ENVIRONMENT = {
    "argv": ["train.py", "--norm=bn", "--workdir=/secret/w", "--data-dir=/secret/d"],
    "commit": "c" * 40,
    "cpu": "a cpu",
    "cores": 2,
    "backend": "cpu",
    "packages": {"jax": "0.10"},
}


def run_folder(folder, knn_every: float | None = 1.0):
    """A finished run of 12 epochs, 10 steps each."""
    rows = [
        {
            "step": step,
            "epoch": step / 10,
            "train/loss": 4 - step / 100,
            "collapse/feature_std": step / 100,
            "collapse/centered_rank": 30.0,
            "collapse/negative_cosine": 1 - step / 240,
        }
        for step in range(5, 121, 5)
    ]
    rows.insert(2, {"step": 10, "knn/top1": 0.3})
    figure = {"untrained": 0.25, "trained": 0.66}
    summary = {"norm": "bn", "steps": 120, "knn": figure, "linear": figure}
    summary |= {"chance": 0.1, "seconds": 30.0, "collapse": {"verdict": "healthy"}}
    config = {"evaluation": {"knn_every_epochs": knn_every}}
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows))
    for name, value in (("summary", summary), ("config", config)):
        (folder / f"{name}.json").write_text(json.dumps(value))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    return folder


def test_what_to_expect_has_the_values_at_the_end_of_each_epoch(tmp_path):
    runs = read_runs(run_folder(tmp_path / "run"))
    expect.write_page(runs, tmp_path)
    page = (tmp_path / "what_to_expect.md").read_text()
    assert "| spread of representations | bn | 0.1 | 0.2 | 0.5 | 1 | - | 1.2 |" in page
    assert "| kNN, % | bn | 30 | - | - | - | - | 66 |" in page
    assert "bn 1.2 at the end" in page and "below 0.005" in page
    assert "bn 0.5 at the end | below 1e-05" in page
    assert "python -m byol_bnfree.train --norm=bn\n" in page and "secret" not in page
    for picture in ("train_loss", "knn_top1", "collapse_centered_rank"):
        file = tmp_path / "figures" / f"expect_{picture}.svg"
        assert file.stat().st_size > 500 and file.name in page


def test_of_two_values_equally_near_to_the_end_of_an_epoch_the_later_counts():
    run = Run("bn", {"knn/top1": [[5, 15, 38], [0.1, 0.2, 0.4]]}, 10.0, "", {})
    assert [value_at(run, "knn/top1", n) for n in (1, 2, 3, 4)] == [0.2, 0.2, None, 0.4]


def test_what_to_expect_counts_the_runs_of_bn_whose_spread_falls_early(tmp_path):
    """Falls before epoch 1 and after epoch 10 are others."""
    steps = [5, 10, 30, 60, 110, 120]
    falling, steady = [9, 4, 4, 3, 5, 1], [9, 4, 5, 6, 1, 1]
    (run,) = read_runs(run_folder(tmp_path / "run"))
    curves = [{"collapse/feature_std": [steps, x]} for x in (falling, steady)]
    expect.write_page([run._replace(curves=run.curves | c) for c in curves], tmp_path)
    page = (tmp_path / "what_to_expect.md").read_text()
    assert "In 1 of the 2 runs of bn below" in page and "by 25 %" in page


def test_markdown_leaves_out_folded_parts_and_what_only_tells_of_them():
    folded = Section("a run", [Text("its curves")], True)
    assert to_markdown(Section("The runs", [Text("Curves of each."), folded])) == ""
    both = to_markdown(Section("The runs", [Table(("a",), [("1",)]), folded]))
    assert "The runs" in both and "its curves" not in both
    assert to_markdown(Section("How", [Text("So.")])) == "## How\n\nSo.\n"


@pytest.mark.parametrize("count", [1, 2, 80, 81, 160, 1001])
def test_a_thinned_curve_has_its_ends_and_at_most_so_many_points(count):
    names = {"train/loss": POINTS, "update_ratio/fc1/kernel": FEW_POINTS}
    found = curves([{"step": n, **dict.fromkeys(names, -n)} for n in range(count)])
    for name, most in names.items():
        steps, values = found[name]
        assert steps[0] == 0 and steps[-1] == count - 1 and len(steps) <= most
        assert values == [-step for step in steps]
    assert len(found["train/loss"][0]) >= min(count, POINTS // 2)


def test_what_to_expect_has_one_command_for_several_seeds(tmp_path):
    (run,) = read_runs(run_folder(tmp_path / "run"))
    runs = [run._replace(command=f"train --seed={seed} --x") for seed in (0, 3)]
    expect.write_page(runs, tmp_path)
    page = (tmp_path / "what_to_expect.md").read_text()
    assert page.count("train --seed=SEED --x  # SEED: 0 3\n") == 1
    assert page.count("--x") == 1


def test_a_run_of_other_settings_than_its_command_gives_today_says_so(tmp_path):
    folder, command = run_folder(tmp_path / "run"), "python -m byol_bnfree.train --norm"
    rows = read_rows(folder / "metrics.jsonl")
    row = {"scale": "cpu", "arm": "bn", "command": f"{command}=bn"}
    row |= {"experiment": "norm_comparison", "settings": "0123456789"}
    row["time"] = "2026-01-02T03:04:05+00:00"
    row["summary"] = json.loads((folder / "summary.json").read_text())
    row |= {"curves": curves(rows), "environment": ENVIRONMENT}
    saved = {"optim": {"name": "muon", "weight_decay": 0.5}, "run": {"keep": 9}}
    made = {"compute_dtype": "float32", "data": {"image_size": 32}}
    for seed, config in ((0, made), (1, saved | made)):
        append_row(tmp_path / "results.jsonl", row | {"seed": seed, "config": config})
    same, other = read_runs(tmp_path / "results.jsonl")
    assert same.differences == ()
    assert other.differences == ("optim.weight_decay was 0.5, today it is 1e-05",)
    expect.write_page([other], tmp_path)
    page = (tmp_path / "what_to_expect.md").read_text()
    assert f"# {other.differences[0]}\n    {command}=bn" in page


def test_knn_of_few_images_is_not_joined_to_that_of_all(tmp_path):
    (run,) = read_runs(run_folder(tmp_path / "run", knn_every=None))
    assert run.curves["knn/top1"] == [[10], [0.3]]


def test_results_hold_added_runs_with_their_conditions(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "RUNS", tmp_path / "runs.jsonl")
    monkeypatch.setattr(results, "PAGE", tmp_path / "results.md")
    monkeypatch.setattr(results, "HOME", tmp_path / "README.md")
    results.HOME.write_text("<!-- lengths -->\n<!-- /lengths -->\n")
    results.main(results.Arguments(add=(run_folder(tmp_path / "run"),)))
    page = (tmp_path / "results.md").read_text()
    assert "| `--norm=bn` | 25.0 -> 66.0 | 25.0 -> 66.0 | 10.0 | healthy | 30 |" in page
    assert "2 cores of a cpu" in page and "secret" not in page
    with pytest.raises(InputError, match="give a finished run"):
        results.main(results.Arguments(add=(tmp_path,)))
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(InputError, match="summary.json is not JSON"):
        results.main(results.Arguments(add=(tmp_path,)))


def test_results_list_runs_whose_settings_the_arms_no_longer_have(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "RUNS", tmp_path / "runs.jsonl")
    monkeypatch.setattr(results, "GRIDS", ("norm_comparison",))
    found = rows_of(load_experiment("norm_comparison"), {"bn": [0.4, 0.5, None]})
    file = tmp_path / "experiments" / "norm_comparison" / "results.jsonl"
    append_row(file, found[0])
    assert "older" not in results.results_page()
    for row in (found[1], found[2], found[2] | {"scale": "cpu30"}):
        append_row(file, row | {"settings": "of old"})
    page = results.results_page()
    conditions = "| norm_comparison | cpu | bn | 1 | 25.0 -> 50.0 | 27.0 -> 50.0 | test"
    assert "## Runs with older settings" in page and conditions in page
    assert "| norm_comparison | cpu30 | bn | 2 |  |  | test of shapes | c" in page
    assert "| bn | 40.0 |" in page


def test_results_name_the_split_the_note_and_commits_that_were_rebased(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "RUNS", tmp_path / "runs.jsonl")
    monkeypatch.setattr(results, "GRIDS", ("norm_comparison", "recipe_search"))
    (plain,) = rows_of(load_experiment("norm_comparison"), {"bn": [0.4]})
    append_row(tmp_path / "experiments" / "norm_comparison" / "results.jsonl", plain)
    trials = load_experiment("recipe_search")
    (trial,) = rows_of(trials, {"bn-muon-0.02": [0.4]})
    trial["config"]["data"] |= {"test_split": "train[45000:]"}
    trial["environment"] |= {"commit": "1f9f797" + "0" * 33}
    append_row(tmp_path / "experiments" / "recipe_search" / "results.jsonl", trial)
    first, second = results.results_page().split(f"## {trials.question}")
    assert "are measured on test of " in first and "In the history" not in first
    assert "are measured on train[45000:] of " in second and trials.note in second
    assert "In the history 1f9f797 is 85c9c56." in second
    assert "on the test split" not in first


@pytest.mark.parametrize("given", ["", " --on-collapse=stop"])
def test_the_command_of_a_stopped_row_stops_it(given):
    row = {"command": f"train --seed=0{given}", "config": {"on_collapse": "stop"}}
    assert run_command(row | {"collapsed": None}) == row["command"]
    stopped = row | {"collapsed": "error: it collapsed at step 3"}
    assert run_command(stopped) == "train --seed=0 --on-collapse=stop"


def test_a_page_of_no_runs_is_refused():
    with pytest.raises(InputError, match="no finished run of bn or gn_ws"):
        expect.main(expect.Arguments(()))


@pytest.mark.parametrize("name", GRIDS)
def test_the_readme_of_an_experiment_has_the_figures_of_its_results(name):
    text = (EXPERIMENTS / name / "README.md").read_text()
    there = between(text, "results")
    assert there == readme_results(load_experiment(name), EXPERIMENTS)


def test_the_front_page_has_the_gains_of_the_results():
    home = (EXPERIMENTS.parent / "README.md").read_text()
    page = (EXPERIMENTS / "norm_comparison/README.md").read_text()
    gains = r"constant tau, gn_ws gains (\S+) points .*? bn gains (\S+) points "
    more = r".*? by \+(\S+) points \(95 % interval \+(\S+) to \+(\S+),"
    found = re.search(gains + more, page).groups()
    gn_ws, bn, more, low, high = found
    words = " ".join(home.split())
    assert f"accuracy of gn_ws by {gn_ws} points, and that of bn by {bn}." in words
    assert f"is {more} points (95 % interval {low} to {high}, three seeds)" in words


def test_the_front_page_has_the_table_of_the_results():
    home = results.HOME.read_text()
    assert between(home, "lengths") == table_markdown(results.lengths())


@pytest.mark.parametrize(
    "gn_ws, cells",
    [
        ([0.54, None], ("54.0", "55.0", "-1.0 (n 1)")),
        ([0.54, 0.57, 0.1], ("55.5", "56.0", "-0.5 [-6.9, +5.9] (n 2)")),
    ],
)
def test_the_table_of_the_front_page_is_of_common_seeds(
    gn_ws, cells, tmp_path, monkeypatch
):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    experiment = load_experiment("norm_comparison")
    for row in rows_of(experiment, {"bn": [0.55, 0.57], "gn_ws": gn_ws}):
        append_row(tmp_path / "experiments" / experiment.name / "results.jsonl", row)
    (line,) = results.lengths().rows
    assert line[1:4] == cells


def test_a_page_is_filled_between_its_own_marks_only():
    page = "<!-- a -->\nx\n<!-- /a -->\nkept\n<!-- b -->\ny\n<!-- /b -->\n"
    new = filled(page, "b", "\\1 new\n")
    assert new == page.replace("y\n", "\\1 new\n")
    assert (between(new, "a"), between(new, "c")) == ("x\n", None)
    assert filled(page, "c", "z") == page


def test_the_page_of_results_has_the_figures_of_the_results():
    assert results.PAGE.read_text() == results.results_page()


@pytest.mark.parametrize(
    "method, experiment, scale, arms",
    [
        ("BYOL", "norm_comparison", "cpu", "bn gn_ws"),
        (
            *("BYOL, with the weight decay of longer runs", "norm_comparison"),
            *("cpu", "bn_decay gn_ws_decay"),
        ),
        ("SimCLR", "contrastive", "cpu", "bn-plain-gradient gn_ws-plain-gradient"),
        ("SimCLR", "objectives", "cpu4", "bn-infonce gn_ws-infonce"),
        ("MoCo v2", "objectives", "cpu4", "bn-moco_v2 gn_ws-moco_v2"),
        ("Barlow Twins", "objectives", "cpu4", "bn-barlow_twins gn_ws-barlow_twins"),
        ("SimSiam", "objectives", "cpu4", "bn-simsiam"),
        ("rotation", "objectives", "cpu4", "bn-rotation gn_ws-rotation"),
        ("BYOL", "objectives", "cpu4", "bn-byol gn_ws-byol"),
    ],
)
def test_the_table_of_methods_has_our_present_figures(method, experiment, scale, arms):
    page = (EXPERIMENTS.parent / "docs/objectives.md").read_text()
    ours = page[page.index("Our own runs") :]
    short = ours.index("After 4 epochs")
    ours = ours[short:] if scale == "cpu4" else ours[:short]
    found = re.search(rf"\| {method} \| ([^|]+) \| ([^|]+) \|", ours).groups()
    rows = read_rows(EXPERIMENTS / experiment / "results.jsonl")
    for arm, figure in zip(arms.split(), found, strict=False):
        values = [
            100 * row["summary"]["linear"]["trained"]
            for row in rows
            if row["scale"] == scale and row["arm"].removesuffix("-beta1") == arm
        ]
        assert f"{sum(values) / len(values):.1f}" == figure, arm
