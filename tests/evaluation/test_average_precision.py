"""Average precision equals hand counts, pycocotools, and another reading of VOC."""

import contextlib
import io

import numpy as np
import pytest

from byol_bnfree.evaluation.dense.average_precision import (
    coco_precisions,
    detection_figures,
    voc_precisions,
)
from detected import detections, objects, scene

# pycocotools 2.0.11: precision of each class at overlap .5, and mean over all overlaps.
PYCOCOTOOLS = {
    "a": ([0.839708, 0.333333, 0.906176], 0.295509),
    "b": ([0.401815, 0.911653, 0.794908], 0.250693),
    "c": ([0.732065, 0.729373, 1.0], 0.214242),
}
# object-detection-metrics 0.4.post1, which ignores no objects: 11 points.
VOC = {
    "a": [0.828896, 0.636364, 0.881674],
    "b": [0.392496, 0.858766, 0.810390],
    "c": [0.702381, 0.699036, 1.000000],
}
# voc_eval(use_07_metric=True) of rbgirshick/py-faster-rcnn (781a917), run on Python 3.
# It adds 1 to every side, so its last corners were smaller by 1. Its order of equal
# scores is open, so each score was smaller by 1e-9 for every earlier detection.
VOC_EVAL = {
    "a": [0.833145, 0.333333, 0.881674],
    "b": [0.352758, 0.903097, 0.810390],
    "c": [0.724242, 0.701299, 1.000000],
    "d": [0.479021, 0.900826, 0.959596],
    "e": [0.471292, 0.909091, 1.000000],
    "f": [0.608254, 0.610537, 0.736364],
}
SQUARE, BESIDE, FAR = (0, 0, 10, 10), (0, 1, 10, 11), (50, 50, 60, 60)
RULES = {
    "voc": lambda *scene: voc_precisions(*scene, 1)[0],
    "coco": lambda *scene: coco_precisions(*scene, 1)[0, 0],
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def one_class(*pairs):
    """Detections (corners, score) of one picture, all of class 0."""
    return detections([p[0] for p in pairs], [p[1] for p in pairs], [0] * len(pairs))


@pytest.mark.parametrize("name", PYCOCOTOOLS)
def test_coco_equals_pycocotools(name):
    of_classes, mean = PYCOCOTOOLS[name]
    found = coco_precisions(*scene(name), 3)
    np.testing.assert_allclose(found[:, 0], of_classes, atol=1e-6)
    assert found.mean() == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize("name", [f"generated {number}" for number in range(8)])
def test_coco_equals_pycocotools_on_generated_pictures(name):
    pytest.importorskip("pycocotools")
    pictures = scene(name)
    expected = by_pycocotools(*pictures, 3)
    np.testing.assert_allclose(coco_precisions(*pictures, 3), expected, atol=1e-12)


@pytest.mark.parametrize("name", VOC)
def test_voc_equals_another_implementation(name):
    found, truth = scene(name)
    result = voc_precisions(found, none_ignored(truth), 3)
    np.testing.assert_allclose(result, VOC[name], atol=1e-6)


@pytest.mark.parametrize("name", VOC_EVAL)
def test_voc_treats_difficult_objects_as_another_implementation_does(name):
    found, truth = scene(name)
    assert any(true.ignored.any() for true in truth)
    result = voc_precisions(found, truth, 3)
    np.testing.assert_allclose(result, VOC_EVAL[name], atol=1e-6)


def none_ignored(truth):
    return [true._replace(ignored=np.zeros_like(true.ignored)) for true in truth]


@pytest.mark.parametrize("name", PYCOCOTOOLS)
def test_figures_are_the_means_of_other_programs(name):
    found, truth = scene(name)
    of_classes, mean = PYCOCOTOOLS[name]
    expected = {"ap50_coco": np.mean(of_classes), "ap_coco": mean}
    figures = detection_figures(found, truth, 3)
    assert {k: figures[k] for k in expected} == pytest.approx(expected, abs=1e-6)
    voc = detection_figures(found, none_ignored(truth), 3)["ap50_voc"]
    assert voc == pytest.approx(np.mean(VOC[name]), abs=1e-6)


def test_two_rules_average_one_curve_differently():
    # Precision 1 up to recall 1/2, then 2/3 up to recall 1: right, wrong, right.
    found = [one_class((SQUARE, 0.9), ((80, 80, 90, 90), 0.8), (FAR, 0.7))]
    truth = [objects([SQUARE, FAR], [0, 0])]
    precision = {name: rule(found, truth) for name, rule in RULES.items()}
    assert precision["voc"] == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert precision["coco"] == pytest.approx((51 + 50 * 2 / 3) / 101)


@every_rule
def test_a_second_detection_of_an_object_is_wrong(rule):
    truth = [objects([SQUARE, FAR], [0, 0])]
    once, twice = [(SQUARE, 0.9), (FAR, 0.7)], [(BESIDE, 0.8)]
    assert rule([one_class(*once)], truth) == 1
    assert rule([one_class(*once, *twice)], truth) < 0.9


@every_rule
def test_ignored_objects_and_their_detections_do_not_count(rule):
    truth = [objects([SQUARE, FAR], [0, 0], [True, False])]
    assert rule([one_class((SQUARE, 0.9), (BESIDE, 0.8), (FAR, 0.7))], truth) == 1
    assert rule([one_class((SQUARE, 0.9))], truth) == 0


@every_rule
def test_an_object_without_detection_costs_recall(rule):
    nothing = one_class()
    truth = [objects([SQUARE], [0]), objects([SQUARE], [0])]
    assert rule([nothing, nothing], truth) == 0
    assert 0.4 < rule([one_class((SQUARE, 0.9)), nothing], truth) < 0.6


@every_rule
def test_detections_in_a_picture_without_objects_are_wrong(rule):
    empty, truth = objects([], []), objects([SQUARE], [0])
    wrong, right = one_class((SQUARE, 0.9)), one_class((SQUARE, 0.8))
    assert rule([wrong, right], [empty, truth]) == 0.5


@every_rule
def test_equal_scores_are_ranked_by_the_order_of_pictures(rule):
    empty, truth = objects([], []), objects([SQUARE], [0])
    found = [one_class((SQUARE, 0.9))] * 2
    assert rule(found, [empty, truth]) == 0.5
    assert rule(found, [truth, empty]) == 1


def test_a_class_without_objects_is_left_out():
    truth = [objects([SQUARE], [0])]
    found = [detections([SQUARE, FAR], [0.5, 0.9], [0, 1])]
    figures = detection_figures(found, truth, 2)
    assert figures == pytest.approx({"ap50_voc": 1, "ap50_coco": 1, "ap_coco": 1})
    nothing = detection_figures(found, [objects([], [])], 2)
    assert all(np.isnan(value) for value in nothing.values())


def test_an_overlap_of_exactly_a_half_is_enough():
    found, truth = [one_class(((0, 0, 10, 5), 0.9))], [objects([SQUARE], [0])]
    assert voc_precisions(found, truth, 1)[0] == 1
    assert coco_precisions(found, truth, 1)[0].tolist() == [1] + [0] * 9


def test_voc_gives_an_object_to_its_best_overlap_only_and_coco_to_a_free_one():
    # Both detections overlap the first object most, and the second one by 9/11.
    truth = [objects([SQUARE, BESIDE], [0, 0])]
    found = [one_class((SQUARE, 0.9), (SQUARE, 0.8))]
    assert voc_precisions(found, truth, 1)[0] == pytest.approx(6 / 11)
    assert coco_precisions(found, truth, 1)[0, 0] == pytest.approx(1)


def test_of_equally_near_objects_coco_takes_the_last_as_pycocotools_does():
    left, middle, right = (0, 1, 10, 11), (0, 2, 10, 12), (0, 3, 10, 13)
    truth = [objects([left, right], [0, 0])]
    found = [one_class((middle, 0.9), (left, 0.8))]
    assert coco_precisions(found, truth, 1)[0, 6] == pytest.approx(1)  # overlap .8
    found = [one_class((middle, 0.9), (right, 0.8))]
    assert coco_precisions(found, truth, 1)[0, 6] < 0.6


def test_coco_counts_a_hundred_detections_of_a_class_in_a_picture():
    wrong = [(FAR, 0.9)] * 100
    found, truth = [one_class(*wrong, (SQUARE, 0.1))], [objects([SQUARE], [0])]
    assert coco_precisions(found, truth, 1)[0, 0] == 0
    assert coco_precisions([one_class(*wrong[1:], (SQUARE, 0.1))], truth, 1)[0, 0] > 0


def by_pycocotools(found, truth, num_classes: int) -> np.ndarray:
    """Precision [k 10] of each class and overlap. COCO's boxes are x, y, w, h."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def turned(box) -> list[float]:
        y0, x0, y1, x1 = map(float, box)
        return [x0, y0, x1 - x0, y1 - y0]

    true, seen = [], []
    for image, (mine, own) in enumerate(zip(found, truth, strict=True)):
        for box, label, crowd in zip(*own, strict=True):
            corners = turned(box)
            true.append(
                {
                    "id": len(true) + 1,
                    "image_id": image,
                    "category_id": int(label),
                    "bbox": corners,
                    "area": corners[2] * corners[3],
                    "iscrowd": int(crowd),
                }
            )
        for box, score, label in zip(*mine, strict=True):
            one = {"image_id": image, "category_id": int(label), "score": float(score)}
            seen.append(one | {"bbox": turned(box)})
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {
            "info": {},
            "images": [{"id": number} for number in range(len(truth))],
            "annotations": true,
            "categories": [{"id": label} for label in range(num_classes)],
        }
        reference.createIndex()
        run = COCOeval(reference, reference.loadRes(seen), "bbox")
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, :, 0, -1]  # overlaps, recalls, classes
    return np.where(precision < 0, np.nan, precision).mean(axis=1).T
