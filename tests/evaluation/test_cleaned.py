"""Targets that cannot be used are cleaned and counted, or are one sentence."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from byol_bnfree.config import AugmentConfig
from byol_bnfree.data.dense.example import DenseSource, make_example
from byol_bnfree.data.dense.shapes import Scenes
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.dense.boxes import objects_of
from byol_bnfree.evaluation.dense.cleaned import Cleaned
from byol_bnfree.evaluation.dense.opening import dense_views
from byol_bnfree.evaluation.dense.tasks import TASKS
from detected import boxes_at

INSIDE, BEYOND, EMPTY = (1, 1, 9, 9), (2, 2, 20, 40), (5, 5, 5, 8)


@dataclass
class Pictures:
    """Pictures of 10 x 12 pixels with these boxes; their classes alternate."""

    boxes: list
    labels: tuple[int, ...] = (0, 1)
    name: str = "set"
    split: str = "train"
    box_names: tuple[str, ...] = ("a", "b")
    class_names: tuple[str, ...] = ()
    location: str = ""
    identity: str = ""
    fingerprint: str = ""
    targets: frozenset = field(default_factory=lambda: frozenset({"boxes"}))

    def __len__(self):
        return len(self.boxes)

    def example(self, index):
        mine = self.boxes[index]
        labels = np.resize(self.labels, len(mine))
        image = np.zeros((10, 12, 3), np.uint8)
        return make_example(image, None, None, boxes_at(*mine), labels, max_boxes=4)

    def file_names(self, indices):
        return [f"{index}.jpg" for index in indices]


def test_boxes_are_clipped_and_empty_ones_dropped():
    source = Cleaned(Pictures([[EMPTY, INSIDE, BEYOND]]), "boxes")
    example = source.example(0)
    found = objects_of(example)
    assert found.boxes.tolist() == [list(INSIDE), [2, 2, 10, 12]]
    assert found.classes.tolist() == [1, 0]
    assert example["boxes"].shape == (4, 4) and example["image"].shape == (10, 12, 3)


def test_faults_are_counted_once_per_picture():
    source = Cleaned(Pictures([[INSIDE], [BEYOND, BEYOND], [EMPTY]]), "boxes")
    for index in (0, 1, 2, 1, 2):
        source.example(index)
    assert source.sentence() == (
        "set train: 2 boxes reach beyond their picture and were clipped; 1 boxes have "
        "no area and were dropped."
    )


def test_clean_boxes_stay_as_they_are_and_say_nothing():
    scenes = Scenes("train", 3)
    source = Cleaned(scenes, "boxes")
    for name, array in scenes.example(2).items():
        np.testing.assert_array_equal(source.example(2)[name], array)
    assert source.sentence() == "" and len(source) == 3
    assert isinstance(source, DenseSource) and source.box_names == scenes.box_names
    assert source.file_names(np.array([2])) == scenes.file_names(np.array([2]))


def test_a_wrong_class_names_the_picture():
    source = Cleaned(
        Pictures([[INSIDE], [INSIDE, INSIDE, INSIDE]], labels=(0, 7)), "boxes"
    )
    with pytest.raises(InputError, match=r"set, 1.jpg: a box has the class 7, but"):
        source.example(1)


class Masked(Pictures):
    """Pictures whose masks have this label above, and depths of this value."""

    def __init__(self, label=0, depth=1.0, before=0):
        super().__init__([], class_names=("a", "b"))
        self.label, self.depth, self.before = label, depth, before
        self.targets = frozenset({"mask", "depth"})

    def __len__(self):
        return 40

    def example(self, index):
        mask, depth = np.zeros((10, 12), int), np.ones((10, 12), np.float32)
        mask[:4], depth[:4] = self.label, self.depth
        if index < self.before:
            mask[:], depth[:] = 255, 0
        return make_example(np.zeros((10, 12, 3), np.uint8), mask, depth)


@pytest.mark.parametrize("label", [2, 7, -1])
def test_a_label_without_a_class_names_the_picture(label):
    with pytest.raises(InputError, match=f"set, 0.jpg: the mask has the class {label}"):
        Cleaned(Masked(label), "mask").example(0)
    with pytest.raises(InputError, match="number them 0 to 1, and use 255"):
        views_of("segmentation", Masked(label))
    views_of("depth", Masked(label))  # which needs no mask
    assert Cleaned(Masked(255), "mask").example(0)["mask"][0, 0] == 255


@pytest.mark.parametrize("depth", [np.inf, np.nan, -3.0])
def test_a_depth_that_is_no_length_is_unknown(depth):
    found = Cleaned(Masked(depth=depth), "depth").example(0)["depth"]
    assert (found[:4] == 0).all() and (found[4:] == 1).all()


@pytest.mark.parametrize("task", ["segmentation", "depth"])
def test_a_set_that_begins_with_pictures_of_nothing_is_used(task):
    assert len(views_of(task, Masked(before=30))[0]) == 40
    with pytest.raises(InputError, match="the 40 pictures of set train have no"):
        views_of(task, Masked(before=40))


def views_of(task, source):
    settings = getattr(EvaluateConfig("unused"), task)
    return dense_views(TASKS[task], source, Masked(), settings, AugmentConfig())
