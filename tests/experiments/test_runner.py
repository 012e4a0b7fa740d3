"""A grid of tiny runs: one that cannot be, and one that `train` has just finished."""

import errno
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from rows import row

from byol_bnfree.errors import InputError, Interrupted
from byol_bnfree.files import append_row, read_rows
from byol_bnfree.training.workdir import lock_workdir
from experiments import queue, runner
from experiments.collapse import outcome
from experiments.grid import Run
from experiments.places import ROW, Places
from experiments.queue import claimed, run_queue
from experiments.results import make_row, read_results
from experiments.runner import describe
from experiments.slots import Slot, slots
from runs import ARGUMENTS, copy_of, trained


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
    return places, run_queue([BAD, GOOD], places).failures


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
    numbers = {"rms", "between_images", "unit_between_images", "kernel", "gradient"}
    assert numbers == set(layers["trained"]["projector/fc1"])
    assert layers["trained"] != layers["untrained"]


@pytest.mark.slow
def test_finished_runs_are_not_done_again(grid, capsys):
    places, _ = grid
    before = places.rows("tiny").read_bytes()
    assert run_queue([GOOD], places) == ([], [])
    assert places.rows("tiny").read_bytes() == before
    assert "finished before" in capsys.readouterr().out


@pytest.mark.slow
def test_the_same_run_of_another_experiment_is_not_done_again(grid):
    places, _ = grid
    other = GOOD._replace(experiment="other", arm="same")
    for _ in range(2):
        assert run_queue([other], places) == ([], [])
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
    assert row["earlier"] == []


def test_a_row_has_the_environments_of_all_parts_of_its_run(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    for name, commit in (("90.", "b"), ("8.", "a"), ("", "c")):
        file = tmp_path / f"environment.{name}json"
        file.write_text(json.dumps({"commit": commit}))
    row = make_row(GOOD, tmp_path, "train", layers=None)
    assert row["environment"] == {"commit": "c"}
    assert row["earlier"] == [
        {"until_step": 8, "commit": "a"},
        {"until_step": 90, "commit": "b"},
    ]


PRETEND = """
import json, os, pathlib, sys
folder = pathlib.Path(sys.argv[1].split("=", 1)[1])
if "--on-collapse=stop" in sys.argv:
    print("collapsed at step 3"); sys.exit(3)
(folder / "summary.json").write_text(json.dumps({}))
print("done", sorted(os.sched_getaffinity(0)))
"""


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    """`train` is a program that ends at once; the row is what it says."""

    def command(run, workdir, _data, stop):
        return ["-c", PRETEND, f"x={workdir}", *[runner.STOP] * stop]

    monkeypatch.setattr(runner, "train_command", command)
    monkeypatch.setattr(runner, "_layers", lambda *_: None)
    monkeypatch.setattr(queue, "describe", lambda row: row["arm"])
    return Places(tmp_path / "runs", tmp_path / "results", None)


def test_runs_side_by_side_each_have_their_core_and_are_done_once(pretended):
    cores = sorted(os.sched_getaffinity(0))
    places = [Slot(f"core {core}", frozenset({core})) for core in (cores * 2)[:2]]
    runs = [tiny(f"arm{n}") for n in range(5)]
    assert run_queue(runs, pretended, places) == ([], [])
    rows = read_rows(pretended.rows("tiny"))
    assert sorted(row["arm"] for row in rows) == [run.arm for run in runs]
    for run in runs:
        said = (pretended.workdir(run) / "train.log").read_text()
        assert said.strip() in {f"done [{core}]" for core in cores}
    assert sorted(os.sched_getaffinity(0)) == cores


def test_a_command_that_is_killed_while_it_measures_layers_loses_no_run(
    pretended, monkeypatch
):
    def killed(*_):
        raise KeyboardInterrupt

    run = tiny("arm")
    with monkeypatch.context() as patch:
        patch.setattr(runner, "_layers", killed)
        with pytest.raises(KeyboardInterrupt):
            runner.do(run, pretended, runner.Processes())
    assert pretended.state(run) == "finished"
    monkeypatch.setattr(runner, "_layers", lambda workdir, *_: {"of": str(workdir)})
    for _ in range(2):
        row = runner.recall(run, pretended)
        assert row["layers"] == {"of": str(pretended.workdir(run))}
    assert read_rows(pretended.rows("tiny")) == [row]


@pytest.mark.parametrize("number, name", [(15, "SIGTERM"), (2, "Ctrl-C")])
def test_a_queue_that_a_signal_ends_says_how_to_go_on(
    number, name, pretended, monkeypatch
):
    def interrupted(*_):
        os.kill(os.getpid(), number)
        time.sleep(0.5)  # the main thread is told meanwhile
        return runner.Failure(run, "it was ended")

    run = tiny("arm")
    monkeypatch.setattr(queue, "do", interrupted)
    said = f"stopped by {name}; the same command resumes"
    with pytest.raises(Interrupted, match=said) as ended:
        run_queue([run], pretended)
    assert ended.value.status == 128 + number


def test_measured_layers_are_kept_with_few_digits(pretended, monkeypatch):
    layers = {"trained": {"encoder/conv1": {"rms": 1.23456789}}}
    monkeypatch.setattr(runner, "_layers", lambda *_: layers)
    assert run_queue([tiny("arm")], pretended) == ([], [])
    (row,) = read_rows(pretended.rows("tiny"))
    assert row["layers"] == {"trained": {"encoder/conv1": {"rms": 1.2346}}}


def test_layers_that_a_stop_interrupts_are_measured_by_the_next_queue(
    pretended, monkeypatch
):
    """The signal of a terminal or a batch system reaches their process too."""
    run, processes = tiny("arm"), runner.Processes()

    def ended(*_):
        processes.stop()

    with monkeypatch.context() as patch:
        patch.setattr(runner, "_layers", ended)
        runner.do(run, pretended, processes)
    assert read_rows(pretended.rows("tiny")) == []
    monkeypatch.setattr(runner, "_layers", lambda workdir, *_: {"of": str(workdir)})
    assert run_queue([run], pretended) == ([], [])
    (row,) = read_rows(pretended.rows("tiny"))
    assert row["layers"] == {"of": str(pretended.workdir(run))}


def test_a_recipe_that_changes_while_a_queue_runs_is_not_trained(
    pretended, tmp_path, monkeypatch
):
    """Its row would stand beside those of the recipe before."""
    recipe = tmp_path / "recipe.py"
    text = Path("configs/smoke.py").read_text()
    recipe.write_text(text)
    runs = [tiny(f"arm{n}", f"--config={recipe}", f"--seed={n}") for n in range(2)]
    done = runner.do

    def edited(*given):
        recipe.write_text(text.replace("tau_base=0.9", "tau_base=0.8"))
        return done(*given)

    monkeypatch.setattr(queue, "do", edited)
    failures, elsewhere = run_queue(runs, pretended)
    assert [failure.run for failure in failures] == runs[1:] and not elsewhere
    assert "has changed since this command began" in failures[0].why
    assert [row["arm"] for row in read_rows(pretended.rows("tiny"))] == ["arm0"]


def test_a_training_whose_queue_was_killed_is_waited_for(pretended, monkeypatch):
    run = tiny("arm")
    workdir = pretended.workdir(run)
    workdir.mkdir(parents=True)
    busy = iter([True, True, True, False])
    monkeypatch.setattr(queue, "_is_training", lambda _: next(busy, False))
    assert run_queue([run], pretended) == ([], [])
    assert pretended.state(run) == "finished"


def test_a_run_that_another_queue_does_is_left_to_it(pretended):
    run = tiny("arm")
    with claimed(pretended.claim(run)) as mine:
        assert mine
        assert run_queue([run], pretended) == ([], [run])
    assert run_queue([run], pretended) == ([], [])  # the lock is free again
    assert pretended.state(run) == "finished"


def test_a_run_that_collapsed_is_ended_early_and_is_a_result(pretended):
    run, stopping = tiny("arm"), pretended._replace(stop_collapsed=True)
    assert run_queue([run], stopping) == ([], [])
    (row,) = read_rows(pretended.rows("tiny"))
    assert row["collapsed"] == "collapsed at step 3" and row["diverged"] is None
    assert row["command"].endswith(" --on-collapse=stop")
    assert outcome(row) == "collapsed" and "collapsed" in describe(row)
    assert stopping.state(run) == "finished"
    assert pretended.state(run) != "finished"  # a grid without the flag goes on


def test_a_stopped_run_that_another_experiment_finished_is_finished(pretended):
    run, stopping = tiny("arm"), pretended._replace(stop_collapsed=True)
    assert run_queue([run], stopping) == ([], [])
    assert pretended.state(run) != "finished"
    other = run._replace(experiment="other")
    assert run_queue([other], pretended) == ([], [])
    assert pretended.known(run).row["experiment"] == "other"
    assert run_queue([run], pretended) == ([], [])
    assert [row["collapsed"] is None for row in read_rows(pretended.rows("tiny"))] == [
        False,
        True,
    ]


def test_a_row_of_results_is_enough_where_no_work_folder_is(pretended, tmp_path):
    """As in a fresh clone; a run of other settings or another seed is not done."""
    run = tiny("arm")
    assert run_queue([run], pretended) == ([], [])
    clone = pretended._replace(runs=tmp_path / "elsewhere")
    assert clone.state(run) == "finished"
    for other in (run._replace(seed=1), run._replace(settings="x")):
        assert clone.state(other) == "new"
    assert run_queue([run], clone) == ([], [])
    assert len(read_rows(clone.rows("tiny"))) == 1


def test_a_row_of_another_experiment_is_enough_where_no_work_folder_is(tmp_path):
    """The row is copied with its own conditions. Nothing is measured again."""
    places = Places(tmp_path / "runs", tmp_path / "results", None)
    theirs = tiny("arm")._replace(experiment="contrastive")
    run = theirs._replace(experiment="objectives", arm="other")
    append_row(places.rows("contrastive"), row(theirs, 0.5, command="theirs"))
    assert places.state(run) == "finished"
    assert places.state(run._replace(scale="cpu8")) == "new"
    for _ in range(2):
        assert run_queue([run], places) == ([], [])
    (copied,) = read_rows(places.rows("objectives"))
    assert copied == row(run, 0.5, command="theirs")


def test_a_results_folder_gets_the_rows_that_it_lacks(pretended, tmp_path):
    """`--results NEW` beside work folders of before; a row of its own is left alone."""
    run = tiny("arm")
    assert run_queue([run], pretended) == ([], [])
    (there,) = read_rows(pretended.rows("tiny"))
    new = pretended._replace(results=tmp_path / "new")
    for _ in range(2):
        assert run_queue([run], new) == ([], [])
        assert read_rows(new.rows("tiny")) == [there]
    theirs = pretended._replace(results=tmp_path / "of another machine")
    append_row(theirs.rows("tiny"), there | {"wall_seconds": 1.0})
    assert run_queue([run], theirs) == ([], [])
    assert len(read_rows(theirs.rows("tiny"))) == 1


def test_a_damaged_row_of_a_work_folder_is_named(pretended):
    run = tiny("bn")
    file = pretended.workdir(run) / ROW
    file.parent.mkdir(parents=True)
    file.write_text('{"experiment": "norm_')
    with pytest.raises(InputError, match="row.json is not JSON; restore or delete it"):
        pretended.known(run)


@pytest.mark.parametrize("line", ["{}", "[]", '{"scale": "cpu", "settings": "a"}'])
def test_a_line_that_is_no_row_of_a_run_is_named_by_its_number(tmp_path, line):
    file = tmp_path / "results.jsonl"
    names = dict.fromkeys(("experiment", "scale", "arm", "seed", "settings", "time"))
    file.write_text(f"{json.dumps(names)}\n{line}\n")
    with pytest.raises(InputError, match="line 2 of .*results.jsonl has no .*time, so"):
        read_results(file)


def test_equal_runs_of_two_experiments_are_trained_once(pretended, monkeypatch):
    """Two slots take them at the same time; the second waits and copies the row."""
    runs = [tiny("arm"), tiny("arm")._replace(experiment="other", arm="same")]
    started = []
    command = runner.train_command

    def counted(run, *rest):
        if rest[0] != Path("WORKDIR"):
            started.append(run)
        return command(run, *rest)

    monkeypatch.setattr(runner, "train_command", counted)
    slots = [Slot(name, None) for name in ("one", "two")]
    assert run_queue(runs, pretended, slots) == ([], [])
    assert len(started) == 1
    names = [read_rows(pretended.rows(run.experiment))[0]["arm"] for run in runs]
    assert names == ["arm", "same"]


def test_a_run_whose_layers_another_queue_measures_is_left_to_it(pretended):
    run = tiny("arm")
    run_queue([run], pretended)
    with claimed(pretended.claim(run)):
        assert run_queue([run], pretended) == ([], [run])
    assert len(read_rows(pretended.rows("tiny"))) == 1


def test_without_locks_on_the_disk_runs_are_done(pretended, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(queue.fcntl, "flock", no_locks)
    run = tiny("arm")
    assert run_queue([run], pretended) == ([], [])
    assert pretended.state(run) == "finished"


def test_a_run_whose_training_goes_on_without_its_queue_is_left_to_it(
    pretended, monkeypatch
):
    monkeypatch.setattr(queue, "PATIENCE", 0.3)
    run = tiny("arm")
    workdir = pretended.workdir(run)
    workdir.mkdir(parents=True)
    with lock_workdir(workdir):
        assert run_queue([run], pretended) == ([], [run])
    assert run_queue([run], pretended) == ([], [])


def test_the_time_left_is_that_of_the_runs_that_this_queue_still_has(pretended, capsys):
    """Neither of those that another command does, nor of those finished meanwhile."""
    runs = [tiny(f"arm{n}") for n in range(3)]
    with claimed(pretended.claim(runs[0])):
        run_queue(runs, pretended, expect=lambda run: 600)
    said = capsys.readouterr().out
    assert "about 20 minutes left" in said and "about 10 minutes left" in said


def test_runs_of_unknown_length_are_counted(pretended, capsys):
    runs = [tiny(f"arm{n}") for n in range(2)]
    run_queue(runs, pretended, expect=lambda run: 600 if run == runs[0] else None)
    said = capsys.readouterr().out
    assert "about 10 minutes and 1 run of unknown length left" in said


@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_terminal_ends_a_queue_unless_nohup_protects_it(ignored, monkeypatch):
    monkeypatch.setattr(queue, "terminals", lambda: [])
    handler = signal.SIG_IGN if ignored else signal.SIG_DFL
    before = signal.signal(signal.SIGHUP, handler)
    try:
        with queue._ended_by_signals():
            if ignored:
                os.kill(os.getpid(), signal.SIGHUP)
            else:
                with pytest.raises(KeyboardInterrupt):
                    os.kill(os.getpid(), signal.SIGHUP)
                os.kill(os.getpid(), signal.SIGHUP)  # again, while the runs save
        assert signal.getsignal(signal.SIGHUP) == handler
    finally:
        signal.signal(signal.SIGHUP, before)


LISTED = """GPU 0: NVIDIA H200 (UUID: GPU-1)
  MIG 1g.18gb     Device  0: (UUID: MIG-1)
GPU 1: NVIDIA H200 (UUID: GPU-2)
"""


def test_parts_of_a_gpu_are_no_gpus(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    done = subprocess.CompletedProcess([], 0, LISTED, "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert [slot.name for slot in slots("device")] == ["device 0", "device 1"]


def test_a_machine_without_devices_says_so(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match="no NVIDIA device"):
        slots("device")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots("device")] == [
        "2",
        "5",
    ]
    assert len(slots("core")) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_layers_are_measured_on_the_device_that_trained(backend, monkeypatch):
    seen = {}

    class Measured:
        returncode = 0

        def communicate(self):
            return '{"untrained": {}}\n', ""

    def start(self, command, environment, stderr):
        seen.update(environment)
        return Measured()

    monkeypatch.setattr(runner.Processes, "start", start)
    slot = Slot("device 3", None, {"CUDA_VISIBLE_DEVICES": "3", "JAX_PLATFORMS": "x"})
    found = runner._layers(Path("w"), backend, slot, runner.Processes())
    assert found == {"untrained": {}}
    assert seen["JAX_PLATFORMS"] == ("cpu" if backend == "cpu" else "x")
    assert seen["CUDA_VISIBLE_DEVICES"] == "3"
