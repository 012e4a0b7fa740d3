"""Boxes that cannot be used are cleaned and counted, or are one sentence."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from byol_bnfree.data.dense.example import DenseSource, make_example
from byol_bnfree.data.dense.shapes import Scenes
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.dense.boxes import objects_of
from byol_bnfree.evaluation.dense.cleaned import Cleaned
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
    source = Cleaned(Pictures([[EMPTY, INSIDE, BEYOND]]))
    example = source.example(0)
    found = objects_of(example)
    assert found.boxes.tolist() == [list(INSIDE), [2, 2, 10, 12]]
    assert found.classes.tolist() == [1, 0]
    assert example["boxes"].shape == (4, 4) and example["image"].shape == (10, 12, 3)


def test_faults_are_counted_once_per_picture():
    source = Cleaned(Pictures([[INSIDE], [BEYOND, BEYOND], [EMPTY]]))
    for index in (0, 1, 2, 1, 2):
        source.example(index)
    assert source.sentence() == (
        "set train: 2 boxes reach beyond their picture and were clipped; 1 boxes have "
        "no area and were dropped."
    )


def test_clean_boxes_stay_as_they_are_and_say_nothing():
    scenes = Scenes("train", 3)
    source = Cleaned(scenes)
    for name, array in scenes.example(2).items():
        np.testing.assert_array_equal(source.example(2)[name], array)
    assert source.sentence() == "" and len(source) == 3
    assert isinstance(source, DenseSource) and source.box_names == scenes.box_names
    assert source.file_names(np.array([2])) == scenes.file_names(np.array([2]))


def test_a_wrong_class_names_the_picture():
    source = Cleaned(Pictures([[INSIDE], [INSIDE, INSIDE, INSIDE]], labels=(0, 7)))
    with pytest.raises(InputError, match=r"set, 1.jpg: a box has the class 7, but"):
        source.example(1)
