"""Processes of a run that differ are refused, in all of them, before the first step."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.training.agreement import facts_of, refuse_differences

ROOT = Path(__file__).parents[2]


def test_the_first_difference_is_named_with_both_values():
    facts = {"--base-lr": 0.2, "--norm": "bn", "jax": "1"}
    refuse_differences([facts, facts, facts])
    other = facts | {"--base-lr": 0.4, "jax": "2"}
    said = "process 1 of 3 has --base-lr 0.4, but process 0 has 0.2 .and 1 more.;"
    with pytest.raises(InputError, match=said):
        refuse_differences([facts, other, facts])


def test_settings_must_be_equal_and_places_need_not():
    together = {"coordinator": "n1:1234", "num_processes": 2}
    first, second = (
        facts_of(TrainConfig(workdir=place, data_dir=place, process_id=k, **together))
        for k, place in enumerate("ab")
    )
    assert first == second
    for name in ("--base-lr", "--run.log-every", "--optim.weight-decay", "--seed"):
        assert name in first


def draw(folder, count):
    """Pictures of two classes, and two more of each for testing."""
    for k in range(count + 4):
        split = "train" if k < count else "test"
        place = folder / split / str(k % 2)
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (9 * k, 0, 99 * (k % 2))).save(place / f"{k}.png")


@pytest.mark.parametrize(
    "flags, said",
    [
        (("--base-lr=0.5",), "process 1 of 2 has --base-lr 0.5, but process 0 has 0.3"),
        (
            ("--dataset=folder:{0}/b",),
            "number of pictures of the train split 16, but process 0 has 20",
        ),
        (("--workdir={0}/other",), "process 1 of 2 does not see the work folder"),
    ],
    ids=["settings", "data", "folder"],
)
def test_two_processes_that_differ_end_with_a_sentence(flags, said, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "byol_bnfree.train", "--config=configs/smoke.py"]
    command += [f"--coordinator=127.0.0.1:{port}", "--num-processes=2"]
    command += [f"--workdir={tmp_path / 'run'}", "--base-lr=0.3"]
    command += [f"--dataset=folder:{tmp_path}/a"]
    for name, count in (("a", 20), ("b", 16)):  # an incomplete copy
        draw(tmp_path / name, count)
    own = [flag.format(tmp_path) for flag in flags]
    processes = [
        subprocess.Popen(
            [*command, f"--process-id={index}", *(own if index else [])],
            cwd=ROOT,
            env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for process in processes:
        out, error = process.communicate(timeout=300)
        assert process.returncode == 2, error
        assert said in error and "compiling" not in out
