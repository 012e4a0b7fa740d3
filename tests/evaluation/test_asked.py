"""Every command reads the same splits of a data set."""

import dataclasses

import pytest

from byol_bnfree.config import DataConfig, TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.bench import data_of
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.images.asked import reading
from byol_bnfree.evaluation.pictures_of import asked_for
from test_embed import write_splits


@pytest.mark.parametrize("second", ["test", "validation"])
def test_another_set_has_its_own_splits(second, tmp_path):
    run = write_splits(tmp_path, "train", second)
    own = dataclasses.replace(run.data, train_split="train[:50%]", unlabelled=True)
    run = dataclasses.replace(run, dataset="folder:/pictures", data=own)
    for read in (reading(run, "seen"), asked_for(run, dataset="seen")):
        assert (read.data.train_split, read.data.test_split) == ("train", second)
        assert not read.data.unlabelled
    known = data_of(run, EvaluateConfig("run", dataset="seen"))
    assert (known["train_split"], known["test_split"]) == ("train", second)
    given = reading(run, "seen", train_split="train[:9]", test_split="train[9:]")
    assert (given.data.train_split, given.data.test_split) == ("train[:9]", "train[9:]")
    with pytest.raises(InputError, match="unseen"):
        reading(run, "unseen")


def test_the_runs_own_set_is_read_as_the_run_read_it():
    data = DataConfig(train_split="train[:90%]", unlabelled=True)
    run = TrainConfig(dataset="folder:/pictures", data=data, on_bad_image="skip")
    for read in (reading(run), reading(run, "folder:/pictures/")):
        assert read.data == data and read.on_bad_image == "skip"
    assert reading(run, test_split="train[90%:]").data.test_split == "train[90%:]"
