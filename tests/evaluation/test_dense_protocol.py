"""`evaluate --protocol segmentation depth`, from the command to rows and pictures."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.evaluate import main
from runs import copy_of, trained
from test_evaluate import ROOT

QUICK = (
    "--segmentation.steps=4 --segmentation.batch-size=4 --segmentation.rates 0.05 "
    "--segmentation.head=linear --segmentation.size 16 16 --segmentation.scales 1 1 "
    "--depth.steps=4 --depth.batch-size=4 --depth.rates 0.01 --depth.head=linear "
    "--depth.size 16 16 --max-test=8"
).split()


def test_the_command_measures_both_tasks_with_their_floor(tmp_path):
    workdir = copy_of(trained(), tmp_path)
    command = [sys.executable, "-m", "byol_bnfree.evaluate", f"--workdir={workdir}"]
    command += ["--protocol", "segmentation", "depth", "random", *QUICK]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert "dense tasks" in done.stdout and "step 4/4: miou" in done.stdout
    lines = (workdir / "evaluations.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    subjects = [(r["identity"]["protocol"], r["identity"]["network"]) for r in rows]
    tasks = ("segmentation", "depth")
    assert subjects == [(t, n) for n in ("online", "random") for t in tasks]
    assert rows[0]["identity"]["settings"]["window"] == [16, 16]
    for task in tasks:
        for ending in ("", "_curves", "-random", "_curves-random"):
            with Image.open(workdir / f"{task}{ending}.png") as picture:
                assert min(picture.size) > 300


def folder_of(path, *, masks=True, size=(12, 12), label=1):
    for part in ("images", "masks"):
        (path / part).mkdir(parents=True)
    for number in range(30):
        pixels = np.full((12, 12, 3), 8 * number, np.uint8)
        Image.fromarray(pixels).save(path / "images" / f"{number}.png")
        if masks:
            mask = np.zeros(size, np.uint8)
            mask[:4] = label
            Image.fromarray(mask).save(path / "masks" / f"{number}.png")
    return path


def refused(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stopped:
        argv = [f"--workdir={trained()}", "--protocol", "segmentation", *arguments]
        exit_on_error(lambda: main([*argv, *QUICK]))
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.count("\n") == 1
    return said


def test_data_without_the_target_is_one_sentence(tmp_path, capsys):
    bare = folder_of(tmp_path / "bare", masks=False)
    other = folder_of(tmp_path / "other", size=(10, 12))
    ignored = folder_of(tmp_path / "ignored", label=255)
    (ignored / "classes.txt").write_text("a\nb\n")
    for file in (ignored / "masks").iterdir():
        Image.fromarray(np.full((12, 12), 255, np.uint8)).save(file)
    sentences = {
        f"--dataset=folder:{bare}": "no masks/ and no depths/",
        f"--dataset=folder:{other}": "is 12 x 10 pixels and the picture 12 x 12",
        f"--dataset=folder:{ignored}": "no known mask at any pixel",
        "--dataset=cifar10": "the targets of cifar10 are not known for dense tasks",
        "--segmentation.batch-size=5": "cannot be cut over 2 devices",
        "--segmentation.stride=1": "choose a power of two",
    }
    for argument, sentence in sentences.items():
        assert sentence in refused(capsys, argument)
