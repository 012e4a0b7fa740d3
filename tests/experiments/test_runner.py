"""A grid of tiny runs: one that cannot be, and one that `train` has just finished."""

import json

import pytest
from runs import ARGUMENTS, copy_of, trained

from experiments.grid import Run
from experiments.results import make_row, read_rows
from experiments.runner import Places, describe, run_grid


def tiny(arm: str, *flags: str) -> Run:
    return Run("tiny", "cpu", arm, 0, (*ARGUMENTS, *flags), arm)


BAD, GOOD = tiny("bad", "--model.width=0.3"), tiny("good", "--norm=gn_ws")


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Folders after the grid was run, and the failures."""
    folder = tmp_path_factory.mktemp("grid")
    places = Places(folder / "runs", folder / "results", None)
    workdir = places.workdir(GOOD)
    workdir.parent.mkdir(parents=True)
    copy_of(trained("gn_ws"), folder).rename(workdir)
    assert places.state(GOOD) == "interrupted"
    return places, run_grid([BAD, GOOD], places)


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_does_not_stop_the_others(grid):
    places, failures = grid
    assert [failure.run for failure in failures] == [BAD]
    assert "width 0.3" in failures[0].why
    assert (places.state(BAD), places.state(GOOD)) == ("new", "finished")


@pytest.mark.slow
def test_a_row_holds_everything_that_a_report_needs(grid):
    rows = read_rows(grid[0].rows("tiny"))
    (row,) = rows
    assert row["arm"] == "good" and "healthy" in describe(row)
    assert row["summary"]["steps"] == 4 and row["summary"]["peak_gib"]["host"] > 0
    assert row["config"]["norm"] == "gn_ws" and row["environment"]["packages"]
    assert row["step_seconds"] > 0 and row["curves"]["train/loss"][0] == [1, 4]
    layers = row["layers"]
    assert list(layers["trained"])[0] == "encoder/conv1"
    numbers = {"rms", "between_images", "kernel", "gradient"}
    assert numbers == set(layers["trained"]["projector/fc1"])
    assert layers["trained"] != layers["untrained"]


@pytest.mark.slow
def test_finished_runs_are_not_done_again(grid, capsys):
    places, _ = grid
    before = places.rows("tiny").read_bytes()
    assert run_grid([GOOD], places) == []
    assert places.rows("tiny").read_bytes() == before
    assert "finished before" in capsys.readouterr().out


@pytest.mark.slow
def test_the_same_run_of_another_experiment_is_not_done_again(grid):
    places, _ = grid
    other = GOOD._replace(experiment="other", arm="same")
    assert run_grid([other], places) == run_grid([other], places) == []
    (row,) = read_rows(places.rows("other"))
    assert (row["experiment"], row["arm"]) == ("other", "same")
    assert row["summary"] == read_rows(places.rows("tiny"))[0]["summary"]


def test_a_run_that_diverged_is_a_result(tmp_path):
    rows = [{"step": 1, "train/loss": 4.0}, {"step": 20, "train/loss": None}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text(lines)
    row = make_row(GOOD, tmp_path, "train", diverged="at step 21", layers=None)
    assert "diverged" in describe(row)
    assert row["curves"]["train/loss"] == [[1, 20], [4.0, None]]
