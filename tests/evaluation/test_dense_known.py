"""Splits whose central windows know nothing end in a sentence before the fits."""

import dataclasses

import numpy as np
import pytest

import tiny
from byol_bnfree.config import AugmentConfig
from byol_bnfree.data.dense.example import KNOWN
from byol_bnfree.data.dense.shapes import Scenes
from byol_bnfree.data.dense.view import DenseView, Windows
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.dense.evaluation import dense_evaluation
from byol_bnfree.evaluation.dense.known import check_known
from byol_bnfree.evaluation.dense.opening import dense_views
from byol_bnfree.evaluation.dense.tasks import TASKS

UNKNOWN = {
    "mask": {"mask": np.full((16, 16), 255, np.int32)},
    "depth": {"depth": np.zeros((16, 16), np.float32)},
    "boxes": {"difficult": np.ones(100, bool)},
}


class Blank(Scenes):
    """Scenes that know one target in some pictures only."""

    known = 0

    def example(self, index):
        example = super().example(index)
        blank = {k: v for unknown in UNKNOWN.values() for k, v in unknown.items()}
        return example if index < self.known else example | blank


class Last(Blank):
    """Only the last of 4 pictures knows nothing."""

    known = 3


def view(kind, split="test", n=4):
    return DenseView(kind(split, n, 16), Windows((16, 16)))


@pytest.mark.parametrize("task", TASKS)
def test_test_pictures_without_the_target_are_one_sentence(task):
    settings = getattr(EvaluateConfig("unused"), task)
    data = tiny.encoder("gn_ws"), view(Scenes, "train"), view(Blank)
    with pytest.raises(InputError, match="the 4 test pictures of .* have no .*; give"):
        dense_evaluation(TASKS[task], *data, settings)


@pytest.mark.parametrize("task", TASKS)
def test_held_out_pictures_without_the_target_are_one_sentence(task):
    usual = getattr(EvaluateConfig("unused"), task)
    settings = dataclasses.replace(usual, rates=(0.1, 0.2))
    data = tiny.encoder("gn_ws"), view(Blank, "train"), view(Scenes)
    with pytest.raises(InputError, match="the . held-out train pictures of .* have no"):
        dense_evaluation(TASKS[task], *data, settings, say=lambda line: None)


@pytest.mark.parametrize("blank", ["train", "test"])
@pytest.mark.parametrize("task", TASKS)
def test_a_split_that_knows_nothing_is_refused_when_it_is_opened(task, blank):
    """Difficult objects are no targets, so they are nothing to fit or to test."""
    kinds = {"train": Scenes, "test": Scenes} | {blank: Blank}
    splits = (kind(split, 4, 16) for split, kind in kinds.items())
    settings = getattr(EvaluateConfig("unused"), task)
    words = KNOWN[TASKS[task].target]
    with pytest.raises(InputError, match=f"4 pictures of .* {blank} have no {words}"):
        dense_views(TASKS[task], *splits, settings, AugmentConfig())


@pytest.mark.parametrize("target", UNKNOWN)
def test_one_window_that_knows_the_target_is_enough(target):
    check_known(target, view(Last), "pictures")
    hidden = view(Last).subset(np.array([3]))
    with pytest.raises(InputError, match="the 1 pictures .* 16 x 16 pixels"):
        check_known(target, hidden, "pictures")
