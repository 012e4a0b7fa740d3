"""detection.png shows objects, and the detections that are certain enough."""

import numpy as np

from byol_bnfree.evaluation.dense.draw_detection import MOST_BOXES, draw_detections
from detected import detections, objects

SQUARE, EDGE = (20, 20, 40, 40), (0, 0, 30, 30)


def drawn(found, truth=None):
    """The boxes and the names in the three columns of a figure of one picture."""
    picture = np.zeros((64, 64, 3), np.uint8)
    truth = truth or objects([], [])
    figure = draw_detections([picture], [truth], [found], ("$a", "b"), "subject")
    figure.canvas.draw()
    columns = figure.axes
    return [len(axes.patches) for axes in columns], [
        [text.get_text() for text in axes.texts] for axes in columns
    ]


def test_each_object_and_each_certain_detection_is_drawn():
    found = detections([SQUARE, EDGE, EDGE], [0.9, 0.31, 0.2], [0, 1, 1])
    boxes, names = drawn(found, objects([SQUARE, EDGE], [0, 1], [False, True]))
    assert boxes == [0, 2, 2]
    assert names == [[], ["$a", "b"], ["b 0.31", "$a 0.90"]]


def test_only_the_best_of_many_detections_are_drawn():
    many = detections([SQUARE] * 40, np.linspace(0.5, 0.9, 40), [0] * 40)
    boxes, names = drawn(many)
    assert boxes == [0, 0, MOST_BOXES]
    assert names[2][-1] == "$a 0.90"


def test_pictures_without_objects_and_detections_are_drawn():
    assert drawn(detections([], [], []))[0] == [0, 0, 0]


def test_gray_pictures_are_drawn():
    picture = np.zeros((32, 32, 1), np.uint8)
    nothing = [objects([], [])], [detections([], [], [])]
    draw_detections([picture], *nothing, ("a",), "gray").canvas.draw()
