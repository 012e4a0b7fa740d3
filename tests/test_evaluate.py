"""`python -m byol_bnfree.evaluate` as users run it: in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from runs import copy_of, trained

ROOT = Path(__file__).parent.parent


def evaluate(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "byol_bnfree.evaluate", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )


def test_the_table_the_pictures_and_the_file_are_named(tmp_path):
    workdir = copy_of(trained(), tmp_path)
    done = evaluate(f"--workdir={workdir}", "--plot", "--protocol", "knn", "random")
    assert done.returncode == 0, done.stderr
    assert "kNN" in done.stdout and "random" in done.stdout
    names = "embedding.png", "confusion.png", "neighbours.png", "evaluations.jsonl"
    assert done.stdout.splitlines()[-4:] == [str(workdir / name) for name in names]
    for name in names[:3]:
        with Image.open(workdir / name) as picture:
            assert min(picture.size) > 500


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--workdir=/nonexistent"], "is not the work folder of a run"),
        (["--workdir=w", "--protocol", "nn"], "invalid choice 'nn'"),
        (["--workdir=w", "--knn.k=0"], "knn.k is 0"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(arguments, sentence):
    done = evaluate(*arguments)
    assert done.returncode == 2, done.stderr
    assert sentence in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
