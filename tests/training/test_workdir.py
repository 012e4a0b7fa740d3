"""The work folder is checked once, held by one run, and its files are never half."""

import contextlib
import dataclasses
import json
import math
import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from byol_bnfree.config import OptimConfig, TrainConfig
from byol_bnfree.errors import InputError, flag
from byol_bnfree.files import write_json
from byol_bnfree.training.changes import compare_config
from byol_bnfree.training.saved_run import read_run
from byol_bnfree.training.workdir import lock_workdir, prepare_workdir

HOLD_LOCK = """
import pathlib, sys, time
from byol_bnfree.training.workdir import lock_workdir
with lock_workdir(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def files_up_to(size):
    """No file may grow beyond `size` bytes: the write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_given_folder_is_made_and_left_empty(tmp_path):
    folder = prepare_workdir(tmp_path / "a" / "b", "unused")
    assert folder == tmp_path / "a" / "b" and list(folder.iterdir()) == []


def test_runs_without_a_folder_get_different_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = {prepare_workdir(None, "gn_ws folder:/x/y") for _ in range(3)}
    assert len(folders) == 3
    assert all(
        "gn_ws-folder-x-y" in f.name and f.parent.name == "runs" for f in folders
    )


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("file", "file is a file where the work folder should be"),
        ("file/below", "Not a directory"),
        ("/proc/nowhere", "No such file"),
    ],
)
def test_place_that_cannot_be_a_folder_is_refused(tmp_path, place, why):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"{why}.*choose another --workdir"):
        prepare_workdir(tmp_path / place, "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        prepare_workdir(tmp_path, "")


def test_full_disk_is_refused(tmp_path):
    with files_up_to(1000), pytest.raises(InputError, match="make room"):
        prepare_workdir(tmp_path, "")
    assert list(tmp_path.iterdir()) == []


def test_json_is_strict_and_takes_what_a_run_has(tmp_path):
    path = tmp_path / "summary.json"
    write_json(path, {"a": math.nan, "b": (1, np.float32(0.5)), "c": tmp_path, 3: None})
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert found == {"a": None, "b": [1, 0.5], "c": str(tmp_path), "3": None}


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "summary.json"
    write_json(path, {"old": 1})
    with files_up_to(100), pytest.raises(OSError):
        write_json(path, {"new": "x" * 1000})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_reader_of_the_old_file_is_not_disturbed_by_a_new_one(tmp_path):
    path = tmp_path / "summary.json"
    write_json(path, {"old": 1})
    with open(path) as reader:
        write_json(path, {"new": 2})
        assert json.load(reader) == {"old": 1}


def test_same_config_resumes_after_a_trip_through_json(tmp_path):
    now = dataclasses.asdict(TrainConfig())
    write_json(tmp_path / "config.json", now)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert compare_config(saved, now, set()) == []


def test_changed_settings_are_named_unless_free():
    saved = dataclasses.asdict(TrainConfig(optim=OptimConfig()))
    now = dataclasses.asdict(TrainConfig(seed=1, optim=OptimConfig(momentum=0.99)))
    now["run"]["log_every"] = 7
    found = compare_config(saved, now, {"run"})
    assert found == ["seed: 0 -> 1", "optim.momentum: 0.9 -> 0.99"]
    assert compare_config(saved, now, {"run.log_every", "seed", "optim"}) == []


def test_settings_that_came_or_went_are_named():
    assert compare_config({"a": {"old": None}}, {"a": {"new": 1}}, set()) == (
        ["a.old: None -> absent", "a.new: absent -> 1"]
    )


def test_lock_refuses_a_second_run_and_falls_to_the_next_when_its_holder_dies(tmp_path):
    command = [sys.executable, "-c", HOLD_LOCK, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            with (
                pytest.raises(InputError, match=f"in use by process {other.pid} on"),
                lock_workdir(tmp_path),
            ):
                pytest.fail("the lock was given twice")
        finally:
            other.kill()
    with lock_workdir(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / "lock").read_text()


def test_lock_is_released_at_the_end(tmp_path):
    for _ in range(2):
        with lock_workdir(tmp_path):
            pass


@pytest.mark.parametrize("name", [b"w\xff", b"w\xff/run"])
def test_a_folder_that_cannot_hold_checkpoints_is_refused_before_it_is_made(
    tmp_path, name
):
    path = tmp_path / os.fsdecode(name)
    for use in (lambda: prepare_workdir(path, ""), lambda: read_run(path)):
        with pytest.raises(InputError, match=r"w\\xff.* not UTF-8") as error:
            use()
        str(error.value).encode()
    assert not list(tmp_path.iterdir())
    assert prepare_workdir(tmp_path / "$x_1$ [bold] ü", "").is_dir()


def test_a_setting_has_the_name_of_its_flag():
    """The field `encoder` is --model; `unlabelled` is --data.unlabelled."""
    saved, now = {"encoder": None, "seed": 0}, {"encoder": "a.py:f", "seed": 0}
    assert compare_config(saved, now, frozenset()) == ["model: None -> a.py:f"]
    with pytest.raises(InputError, match="--model is ''; it must be"):
        TrainConfig(encoder="")
    assert flag("unlabelled") == "--data.unlabelled"
