"""What is wrong whatever the data are is refused before the data are looked for."""

import os
import sys

import pytest

from byol_bnfree import parse_args, train
from byol_bnfree.errors import InputError
from byol_bnfree.models.norm import NORMS
from byol_bnfree.whole_run import run as whole_run
from runs import ARGUMENTS, copy_of, trained

MINE = """
from flax import linen as nn
def mean(layers): return nn.Dense(4)
def number(layers): return 1
"""


@pytest.fixture
def no_data(tmp_path, monkeypatch):
    """Data that must not be looked for, in a folder with a file and a program."""

    def found(config):
        raise AssertionError("the data were looked for")

    monkeypatch.setattr(whole_run, "find_data", found)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "file").touch()


WRONG = {
    "--batch-size=7": "cannot be split over 2 data devices",
    "--run.model-devices=3": "does not divide the 2 devices",
    "--run.convolution=onednn": "needs a single CPU device",
    "--model=mine.py:none": "has no function 'none'",
    "--model=mine.py:number": "must return a flax.linen module",
    "--model=mine.py:mean --remat": "this encoder is your own",
    "--augment.function=mine.py:none": "has no function 'none'",
    "--model.width=0.3": "choose a width that gives whole numbers",
    "--model.groups=3 --model.min-group-channels=1": "cut into 3 equal groups",
    "--model.predictor.hidden=18": "cut into 16 equal groups",
    "--init-from=missing": "is not the work folder of a run",
    "--init-from=.": "is not the work folder of a run",
    "--workdir=file": "the work folder cannot be file: .*/file is a file",
    "--workdir=file/run": "the work folder cannot be file/run: .*/file is a file",
    "--run.wandb=project": "needs the package wandb",
}


@pytest.mark.parametrize("flags", WRONG)
def test_it_is_refused_before_the_data(flags, no_data, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    asked = ["--model.predictor.hidden=32", "--model.min-group-channels=1"]
    with pytest.raises(InputError, match=WRONG[flags]):
        train(parse_args([*ARGUMENTS, "--norm=gn_ws", *asked, *flags.split()]))
    assert sorted(os.listdir()) == ["file", "mine.py"]


def test_a_folder_that_is_read_only_is_refused_before_the_data(no_data, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="cannot be new: .* cannot be written to"):
        train(parse_args([*ARGUMENTS, "--workdir=new"]))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("own", [[], ["--model=mine.py:mean"]])
def test_good_settings_reach_the_data(norm, own, no_data):
    with pytest.raises(AssertionError, match="looked for"):
        train(parse_args([*ARGUMENTS, f"--norm={norm}", *own, "--workdir=a/b"]))
    assert not os.path.exists("a")


def test_an_extension_without_wandb_leaves_the_run_as_it_is(tmp_path, monkeypatch):
    """Whether the package is missing, or it does not start."""
    run = copy_of(trained(), tmp_path)
    before = {file: file.read_bytes() for file in run.glob("*.json*")}
    longer = parse_args(["--extend=9", f"--workdir={run}", "--run.wandb=project"])
    for wandb in (None, type("Wandb", (), {"init": lambda **_: 1 / 0})):
        monkeypatch.setitem(sys.modules, "wandb", wandb)
        with pytest.raises(InputError, match=r"--run\.wandb"):
            train(longer)
        assert {file: file.read_bytes() for file in run.glob("*.json*")} == before
