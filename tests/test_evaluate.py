"""`python -m byol_bnfree.evaluate` as users run it: in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.embed import EmbedConfig, embed
from byol_bnfree.errors import InputError
from byol_bnfree.evaluate import main
from byol_bnfree.evaluation import run as evaluation
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.export import ExportConfig
from byol_bnfree.files import write_json
from byol_bnfree.interop.exporting import export
from byol_bnfree.predict import PredictConfig, predict
from runs import copy_of, run, trained

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


@pytest.fixture
def pictures(tmp_path):
    """Folders of noise: some unlabelled, and a class that only the test split has."""
    names = ("plain", "two/train/a", "two/train/b", "two/test/a", "two/test/c")
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        for number in range(12):
            Image.fromarray(noise).save(tmp_path / name / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--semi.shares=0.95"], "ask for a smaller share"),
        (["--dataset=folder:{}/plain"], "has images without label"),
        (["--dataset=folder:{}/two"], "has c, which its train split lacks"),
    ],
)
def test_data_that_cannot_be_evaluated_on_is_refused(
    arguments, sentence, pictures, capsys
):
    workdir = f"--workdir={trained()}"
    given = [argument.format(pictures) for argument in arguments]
    with pytest.raises(SystemExit) as stopped:
        argv = [workdir, "--protocol", "knn", "semi_supervised", *given]
        exit_on_error(lambda: main(argv))
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and sentence in said
    assert said.count("\n") == 1 and not (trained() / "evaluations.jsonl").exists()


def test_a_run_that_is_read_only_is_refused_before_the_data(tmp_path, monkeypatch):
    run = copy_of(trained(), tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(evaluation, "_open_all", lambda *_: 1 / 0)
    with pytest.raises(InputError, match="cannot be written to; .*give --weights="):
        evaluation.evaluate(EvaluateConfig(f"{run}"))


@pytest.mark.parametrize("finished", [True, False])
def test_every_command_says_if_the_run_is_not_finished(tmp_path, capsys, finished):
    workdir = copy_of(trained(), tmp_path)
    if not finished:  # as a longer run that was interrupted
        config = json.loads((workdir / "config.json").read_text())
        write_json(workdir / "config.json", config | {"steps": 9})
        (workdir / "summary.json").unlink()
    note = (
        f"note: {workdir} is not finished: step 4 of 9; the same training command "
        f"resumes it"
    )
    capsys.readouterr()
    run(workdir, "linear_cached", save=True)
    (classifier,) = (workdir / "evaluation" / "classifiers").iterdir()
    for command in (
        lambda: embed(EmbedConfig(str(workdir), out=str(tmp_path / "f.npz"))),
        lambda: predict(PredictConfig(str(classifier), out=str(tmp_path / "p.csv"))),
        lambda: print(*export(ExportConfig(str(workdir), compare=False)), sep="\n"),
        lambda: None,
    ):
        assert (note in capsys.readouterr().out.splitlines()) != finished
        command()
