"""The head, its targets, its loss and its candidates."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import entr

from byol_bnfree.config import NORMS
from byol_bnfree.evaluation.dense.boxes import overlaps
from byol_bnfree.evaluation.dense.detection_head import (
    DetectionHead,
    Raw,
    candidates,
)
from byol_bnfree.evaluation.dense.detection_loss import (
    centreness,
    detection_loss,
    detection_targets,
    generalized_overlap,
)
from byol_bnfree.evaluation.dense.places import Grid
from byol_bnfree.models.norm import layers_for
from detected import random_boxes

STRIDE = 4
SQUARE = (4, 4, 16, 16)  # on a map of 8 places at stride 4
GRID = Grid(STRIDE, start=False)
assign = jax.jit(partial(detection_targets, size=(32, 32), counts=(8, 8), grid=GRID))
loss_of = jax.jit(detection_loss)


def targets_of(*objects, difficult=()):
    """Targets of one picture of 32 pixels; objects are (corners, class)."""
    boxes = np.zeros((1, 5, 4), np.float32)
    classes, hard = np.full((1, 5), -1, np.int32), np.zeros((1, 5), bool)
    for row, (corners, label) in enumerate(objects):
        boxes[0, row], classes[0, row], hard[0, row] = corners, label, row in difficult
    return assign(boxes, classes, hard)


@jax.jit
def perfect(targets) -> Raw:
    """Predictions that fit the targets."""
    wanted = jax.nn.one_hot(targets.classes, 2)
    centre = jnp.clip(centreness(targets.distances), 1e-6, 1 - 1e-6)
    logit = jnp.log(centre / (1 - centre))
    return Raw(20 * (2 * wanted - 1), targets.distances, logit)


@pytest.fixture(scope="module")
def heads():
    """Head and variables for every norm, on maps of 8 channels."""
    maps = jax.random.normal(jax.random.key(0), (2, 4, 4, 8))

    def of(norm: str):
        head = DetectionHead(3, layers_for(norm), depth=1, width=16)
        return head, jax.jit(head.init)(jax.random.key(1), maps), maps

    return {norm: of(norm) for norm in NORMS}


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_gives_the_same_parameters_and_shapes(heads, norm):
    head, variables, maps = heads[norm]
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes == jax.tree.map(jnp.shape, heads["bn"][1]["params"])
    raw = head.apply(variables, maps)
    assert raw.logits.shape == (2, 4, 4, 3)
    assert raw.distances.shape == (2, 4, 4, 4) and (raw.distances > 0).all()
    assert raw.centre.shape == (2, 4, 4)


@pytest.mark.parametrize("norm", NORMS)
def test_the_rest_of_the_batch_matters_to_bn_only(heads, norm):
    head, variables, maps = heads[norm]
    changed = maps.at[1].set(5.0)
    first, second = (
        head.apply(variables, m, True, mutable=["batch_stats"])[0].logits[0]
        for m in (maps, changed)
    )
    assert bool(jnp.allclose(first, second, atol=1e-7)) == (norm != "bn")


def test_classes_start_improbable(heads):
    head, variables, maps = heads["gn_ws"]
    chances = jax.nn.sigmoid(head.apply(variables, maps).logits)
    np.testing.assert_allclose(chances, 0.01, atol=0.01)


def test_without_towers_the_scores_are_linear_in_the_map():
    maps = jax.random.normal(jax.random.key(0), (1, 4, 4, 8))
    head = DetectionHead(3, layers_for("gn_ws"), depth=0)
    variables = jax.jit(head.init)(jax.random.key(1), maps)
    zero, once, twice = (head.apply(variables, k * maps).logits for k in (0, 1, 2))
    np.testing.assert_allclose(twice - once, once - zero, atol=1e-6)


def test_places_inside_an_object_and_near_its_centre_are_positive():
    found = targets_of((SQUARE, 1))
    assert np.argwhere(found.classes[0] == 1).tolist() == [
        [row, column] for row in (1, 2, 3) for column in (1, 2, 3)
    ]
    # Place (1, 2) is the pixel (6, 10): 2 below the top, 6 from the left.
    np.testing.assert_allclose(found.distances[0, 1, 2] * STRIDE, [2, 6, 10, 6])
    wide = targets_of(((0, 0, 32, 32), 0))
    assert (wide.classes[0] == 0).sum() == 4  # of 64


def test_a_place_takes_the_smallest_of_several_objects():
    inner = (4, 4, 12, 12)
    for objects in ([(SQUARE, 0), (inner, 1)], [(inner, 1), (SQUARE, 0)]):
        found = targets_of(*objects)
        assert found.classes[0, 1, 1] == 1 and found.classes[0, 3, 3] == 0


def test_padding_takes_no_place():
    found = targets_of((SQUARE, 1), ((4, 4, 12, 12), -1))
    assert found.classes[0, 1, 1] == 1
    np.testing.assert_allclose(found.distances[0, 1, 1] * STRIDE, [2, 2, 10, 10])


def test_places_of_difficult_objects_do_not_count():
    found = targets_of((SQUARE, 1), difficult=[0])
    assert (found.classes == -1).all()
    assert (~found.counted[0]).sum() == 9
    both = targets_of((SQUARE, 1), ((4, 4, 12, 12), 0), difficult=[0])
    assert both.counted[0, 1, 1] and not both.counted[0, 3, 3]


def test_a_picture_without_objects_is_background():
    found = targets_of()
    assert (found.classes == -1).all() and found.counted.all()
    assert loss_of(perfect(found), found) < 1e-6


def test_perfect_predictions_cost_nothing_but_the_entropy_of_centres():
    found = targets_of((SQUARE, 1), ((20, 20, 28, 30), 0))
    raw, centres = perfect(found), centreness(found.distances)[found.classes >= 0]
    least, entropies = loss_of(raw, found), entr(centres) + entr(1 - centres)
    np.testing.assert_allclose(least, np.mean(entropies), atol=2e-6)
    for change in ("logits", "distances", "centre"):
        worse = raw._replace(**{change: getattr(raw, change) * 0.1})
        assert loss_of(worse, found) > least


def test_difficult_places_have_no_gradient():
    found = targets_of((SQUARE, 1), difficult=[0])
    raw = perfect(found)._replace(logits=jnp.zeros((1, 8, 8, 2)))
    gradient = jax.jit(jax.grad(lambda raw: detection_loss(raw, found)))(raw)
    assert not np.asarray(gradient.logits)[~found.counted].any()
    assert np.asarray(gradient.logits)[found.counted].all()


def test_centreness_is_that_of_equation_3():
    found = centreness(jnp.array([[1.0, 1, 1, 1], [1, 2, 3, 4], [0, 1, 1, 1]]))
    np.testing.assert_allclose(found, [1, np.sqrt(1 / 3 * 2 / 4), 0], rtol=1e-6)


def test_generalized_overlap_of_boxes_around_a_place():
    place = np.array([50.0, 50, 50, 50])
    pairs = random_boxes("giou", 20)
    around = np.abs(pairs - 60) + 1  # distances from the place
    first, second = jnp.asarray(around[:10]), jnp.asarray(around[10:])
    corners = [place + np.asarray(d) * [-1, -1, 1, 1] for d in (first, second)]
    expected = np.diag(overlaps(*(c.astype(np.float32) for c in corners)))
    hull = np.maximum(first, second)
    hull = (hull[:, 0] + hull[:, 2]) * (hull[:, 1] + hull[:, 3])
    areas = [(d[:, 0] + d[:, 2]) * (d[:, 1] + d[:, 3]) for d in (first, second)]
    union = sum(areas) / (1 + expected)
    found = generalized_overlap(first, second)
    np.testing.assert_allclose(found, expected - (hull - union) / hull, rtol=1e-5)
    np.testing.assert_allclose(generalized_overlap(first, first), 1, rtol=1e-6)


def test_candidates_of_perfect_predictions_are_the_objects():
    found = targets_of((SQUARE, 1), ((20, 20, 28, 30), 0))
    best = candidates(perfect(found), (32, 32), GRID, most=5)
    assert best.boxes.shape == (1, 5, 4)
    assert (np.diff(best.scores[0]) <= 0).all()
    for box, label in zip(best.boxes[0], best.classes[0], strict=True):
        wanted = SQUARE if label == 1 else (20, 20, 28, 30)
        np.testing.assert_allclose(box, wanted, rtol=1e-5)
    assert set(best.classes[0].tolist()) == {0, 1}


def test_candidates_stay_in_the_picture():
    shape = (1, 2, 2)
    ones = jnp.ones(shape)
    raw = Raw(jnp.zeros((*shape, 2)), jnp.full((*shape, 4), 99.0), ones)
    assert candidates(raw, (8, 8), GRID).boxes.tolist() == [[[0, 0, 8, 8]] * 8]
    # A picture of 7 x 6 pixels has the same map.
    assert candidates(raw, (7, 6), GRID).boxes.tolist() == [[[0, 0, 7, 6]] * 8]
