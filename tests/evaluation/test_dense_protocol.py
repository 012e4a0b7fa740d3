"""`evaluate --protocol` with all dense tasks, from the command to rows and pictures."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from byol_bnfree.evaluation.dense.tasks import TASKS
from runs import copy_of, trained
from test_evaluate import ROOT

QUICK = (
    "--segmentation.steps=4 --segmentation.batch-size=4 --segmentation.rates 0.05 "
    "--segmentation.head=linear --segmentation.size 16 16 --segmentation.scales 1 1 "
    "--depth.steps=4 --depth.batch-size=4 --depth.rates 0.01 --depth.head=linear "
    "--depth.size 16 16 --detection.steps=4 --detection.batch-size=4 "
    "--detection.head=linear --detection.size 16 16 --detection.scales 1 1 --max-test=8"
).split()


@pytest.mark.slow
def test_the_command_measures_all_tasks_with_their_floor(tmp_path):
    workdir = copy_of(trained(), tmp_path)
    command = [sys.executable, "-m", "byol_bnfree.evaluate", f"--workdir={workdir}"]
    command += ["--protocol", *TASKS, "random", "supervised", *QUICK]
    command += ["--supervised.epochs=1", "--supervised.warmup-epochs=0.1"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert (
        "dense tasks" in done.stdout
        and "step 4/4, 8 test pictures: miou" in done.stdout
    )
    lines = (workdir / "evaluations.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    subjects = [(r["identity"]["protocol"], r["identity"]["network"]) for r in rows]
    floors = [(task, network) for network in ("online", "random") for task in TASKS]
    ceilings = [("supervised", "random"), *((task, "supervised") for task in TASKS)]
    assert subjects == floors + ceilings
    assert len({row["identity"]["weights"] for row in rows}) == 3
    assert "supervised: the same after training with labels" in done.stdout
    assert rows[0]["identity"]["settings"]["window"] == [16, 16]
    for task in TASKS:
        for ending in ("", "_curves", "-random", "_curves-random", "-supervised"):
            with Image.open(workdir / f"{task}{ending}.png") as picture:
                assert min(picture.size) > 300
