"""Every command line expands ~ in the paths it is given, and ends in a sentence."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import byol_bnfree
from byol_bnfree import parse_args, train
from byol_bnfree.command_line import exit_on_error
from byol_bnfree.data.__main__ import main as data
from byol_bnfree.embed import main as embed
from byol_bnfree.errors import InputError
from byol_bnfree.evaluate import main as evaluate
from byol_bnfree.export import main as export
from byol_bnfree.predict import main as predict
from byol_bnfree.whole_run import run as whole_run
from experiments.arguments import Arguments
from experiments.command import _places, carry_out
from runs import ARGUMENTS, copy_of, trained

MINE = """
from flax import linen as nn

class Mean(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        return nn.Dense(4)(images.mean((1, 2)))

def mean(layers):
    return Mean()
"""
LONG = "x" * 300
NOTHING = {"trained": None, "untrained": None}
SUMMARY = {"steps": 0, "knn": NOTHING, "linear": NOTHING, "images_per_s": None}


def pretrain(argv):
    train(parse_args([*ARGUMENTS, *argv]))


COMMANDS = {
    "train --workdir": (pretrain, ["--workdir={}"]),
    "train --extend": (pretrain, ["--extend=9", "--workdir={}"]),
    "train --init-from": (pretrain, ["--init-from={}", "--workdir=new"]),
    "train --model": (pretrain, ["--model={}/a.py:f", "--workdir=new"]),
    "train --augment.function": (
        pretrain,
        ["--augment.function={}/a.py:f", "--workdir=new"],
    ),
    "train --config": (pretrain, ["--config={}/a.py", "--workdir=new"]),
    "train --dataset": (pretrain, ["--dataset=folder:{}", "--workdir=new"]),
    "train --data-dir": (
        pretrain,
        ["--dataset=cifar10", "--data-dir={}", "--workdir=new"],
    ),
    "evaluate --workdir": (evaluate, ["--workdir={}"]),
    "evaluate --weights": (evaluate, ["--workdir=w", "--weights={}"]),
    "embed --workdir": (embed, ["--workdir={}"]),
    "embed --out": (embed, ["--workdir=w", "--out={}/a.npz"]),
    "predict --classifier": (predict, ["--classifier={}/a.npz"]),
    "predict --out": (predict, ["--classifier=c.npz", "--out={}/a.csv"]),
    "export --workdir": (export, ["--workdir={}"]),
    "data list": (data, ["list", "--data-dir={}"]),
    "data prepare": (data, ["prepare", "folder:{}", "--data-dir=data"]),
    "data prepare --archive": (
        data,
        ["prepare", "cifar10", "--archive={}", "--data-dir=data"],
    ),
}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty home folder, apart from the working directory."""
    (tmp_path / "here").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", LONG])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_path_that_leads_nowhere_is_one_sentence(
    command, path, home, capsys, monkeypatch
):
    monkeypatch.setattr(whole_run, "run_steps", lambda *_: SUMMARY)
    main, argv = COMMANDS[command]
    status = 0
    try:
        exit_on_error(lambda: main([text.format(path) for text in argv]))
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr().err
    assert status in (0, 2)
    assert said.count("error:") <= 1 and said.count("\n") <= 1


def test_no_path_is_expanded_in_a_way_that_raises():
    package = Path(byol_bnfree.__file__).parent
    files = [*package.rglob("*.py"), *(package.parent / "experiments").rglob("*.py")]
    assert [f for f in files if ".expanduser()" in f.read_text()] == []


def test_a_run_in_the_home_folder_is_evaluated(home):
    copy_of(trained(), home)
    evaluate(["--workdir=~/run", "--protocol", "knn"])
    assert (home / "run" / "evaluations.jsonl").exists()
    assert os.listdir() == []


@pytest.mark.slow
def test_a_run_in_the_home_folder_is_evaluated_used_and_exported(home):
    """Each command writes below the home folder, and nothing beside it."""
    copy_of(trained(), home)
    evaluate(
        ["--workdir=~/run", "--protocol", "linear_cached", "--save"]
        + ["--linear.batch-size=16"]
    )
    (saved,) = (home / "run/evaluation/classifiers").iterdir()
    name = str(saved).replace(str(home), "~")
    predict([f"--classifier={name}", "--out=~/one.csv"])
    predict([f"--classifier={name}", "--workdir=~/run", "--out=~/two.csv"])
    embed(["--workdir=~/run", "--out=~/features.npz"])
    export(["--workdir=~/run", "--out=~/export", "--no-compare"])
    data(["views", *ARGUMENTS, "--out=~/views.png"])
    made = {"one.csv", "two.csv", "features.npz", "export", "views.png", "run"}
    assert {file.name for file in home.iterdir()} >= made
    assert (home / "run" / "evaluations.jsonl").exists()
    assert os.listdir() == []


def test_training_takes_all_its_paths_from_the_home_folder(home, monkeypatch):
    programs = []
    keep = lambda program, *_: programs.append(program) or SUMMARY  # noqa: E731
    monkeypatch.setattr(whole_run, "run_steps", keep)
    (home / "mine.py").write_text(MINE)
    (home / "config.py").write_text(
        "from byol_bnfree import TrainConfig\ndef get_config(): return TrainConfig()\n"
    )
    pretrain(["--workdir=~/1", "--model=~/mine.py:mean"])
    pretrain(["--workdir=~/2", "--config=~/config.py", "--batch-size=8"])
    for name in ("a", "b"):
        (home / "pictures" / name).mkdir(parents=True)
        noise = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
        for k, pixels in enumerate(noise):
            Image.fromarray(pixels).save(home / "pictures" / name / f"{k}.png")
    data(["prepare", "folder:~/pictures", "--data-dir=~/data"])
    pretrain(["--workdir=~/3", "--dataset=pictures", "--data-dir=~/data"])
    pretrain(["--workdir=~/4", "--dataset=folder:~/pictures"])
    assert len(programs) == 4 and programs[0].config.encoder == f"{home}/mine.py:mean"
    assert os.listdir() == []


def test_experiments_take_all_their_paths_from_the_home_folder(home):
    arguments = Arguments(
        ("views",), out=Path("~/runs"), results=Path("~/found"), data_dir="~/data"
    )
    places = _places(arguments)
    assert (places.runs, places.results) == (home / "runs", home / "found")
    assert places.data_dir == str(home / "data")


@pytest.mark.parametrize("name", ["data_dir", "model"])
def test_experiments_refuse_an_empty_text(name):
    with pytest.raises(InputError, match="is ''; it must be a non-empty text"):
        Arguments(("views",), **{name: ""})


@pytest.mark.parametrize("page", ["report", "state"])
@pytest.mark.parametrize(
    "fields",
    [
        *({"arms": ("bn",)}, {"only": ("bn",)}, {"rows": ("1",)}, {"each": "core"}),
        *({"shard": "0/2"}, {"dry_run": True}),
    ],
)
def test_pages_take_no_settings_of_runs(page, fields):
    with pytest.raises(InputError, match=f"{page} writes pages .*--{[*fields][0][:3]}"):
        carry_out(Arguments((page,), **fields))


@pytest.mark.parametrize("flag", ["out", "results"])
def test_experiments_refuse_a_file_in_place_of_a_folder(home, flag):
    (home / "file").touch()
    arguments = Arguments(("views",), **{flag: Path("~/file")})
    with pytest.raises(InputError, match=f"--{flag} cannot be .*/file is a file"):
        _places(arguments)
