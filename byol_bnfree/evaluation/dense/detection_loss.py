"""FCOS's targets and loss (arXiv 1904.01355): arrays in, arrays out.

A place of the map is positive for an object if it lies inside its box and within 1.5
strides of its centre. Of several objects it takes the one with the smallest box. An
object that is smaller than a stride may have no positive place.

    loss = focal(class) / P + sum c (1 - GIoU) / sum c + BCE(centre, c) / P

P counts the positive places of the batch. c is the centre-ness of a place in its box.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from byol_bnfree.data.dense.example import PADDING
from byol_bnfree.evaluation.dense.detection_head import Raw
from byol_bnfree.evaluation.dense.places import Grid, places, stride_of

RADIUS = 1.5  # of the positive places around a centre, in strides
ALPHA, GAMMA = 0.25, 2.0  # of the focal loss (arXiv 1708.02002)
BACKGROUND = -1  # class of a place that lies in no object


class Targets(NamedTuple):
    """What the head should return for every place of the map."""

    classes: Int[Array, "b h w"]
    """-1 is background."""
    distances: Float[Array, "b h w 4"]
    """To the sides of the box, in strides; 1 where there is no box."""
    counted: Bool[Array, "b h w"]
    """False inside difficult objects only: finding them is neither right nor wrong."""


def detection_targets(
    boxes: Float[Array, "b m 4"],
    classes: Int[Array, "b m"],
    difficult: Bool[Array, "b m"],
    *,
    size: tuple[int, int],
    counts: tuple[int, int],
    grid: Grid,
) -> Targets:
    """Assign an object or the background to every place of a map.

    `size` is the height and width of the pictures, `counts` are the places [h w] of the
    map, and `grid` is the network's.
    """
    middle = places(size, counts, grid)[:, :, None, :]
    stride = stride_of(size, counts)

    def of_one(boxes, classes, difficult) -> Targets:
        """Assign the objects of one picture: boxes [n 4], classes and difficult [n]."""
        low, high = boxes[None, None, :, :2], boxes[None, None, :, 2:]
        distances = jnp.concatenate([middle - low, high - middle], axis=-1)
        offset = jnp.abs(middle - (low + high) / 2).max(axis=-1)
        inside = (distances.min(axis=-1) > 0) & (classes != PADDING)[None, None]
        hidden = inside & difficult[None, None]
        near = inside & (offset < RADIUS * stride) & ~difficult[None, None]
        area = jnp.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)[None, None]
        # Where objects overlap, the smallest one is assigned, as in FCOS.
        nearest = jnp.where(near, area, jnp.inf).argmin(axis=-1)
        positive = near.any(axis=-1)
        picked = jnp.take_along_axis(distances, nearest[..., None, None], axis=2)
        return Targets(
            jnp.where(positive, classes[nearest], BACKGROUND),
            jnp.where(positive[..., None], picked[:, :, 0] / stride, 1.0),
            positive | ~hidden.any(axis=-1),
        )

    return jax.vmap(of_one)(boxes, classes, difficult)


def detection_loss(raw: Raw, targets: Targets) -> Float[Array, ""]:
    """Return the loss of a batch."""
    positive = targets.classes != BACKGROUND
    count = jnp.maximum(positive.sum(), 1)
    # one_hot gives zeros for the background.
    wanted = jax.nn.one_hot(targets.classes, raw.logits.shape[-1])
    focal = optax.sigmoid_focal_loss(raw.logits, wanted, alpha=ALPHA, gamma=GAMMA)
    centre = jnp.where(positive, centreness(targets.distances), 0.0)
    misfit = 1 - generalized_overlap(raw.distances, targets.distances)
    entropy = optax.sigmoid_binary_cross_entropy(raw.centre, centre)
    of_classes = jnp.sum(focal * targets.counted[..., None]) / count
    of_boxes = jnp.sum(misfit * centre) / jnp.maximum(centre.sum(), 1e-6)
    return of_classes + of_boxes + jnp.sum(entropy * positive) / count


def centreness(distances: Float[Array, "*p 4"]) -> Float[Array, "*p"]:
    """Return 1 in the middle of a box, 0 at its edge (equation 3 of the paper)."""
    first, second = distances[..., :2], distances[..., 2:]
    ratios = jnp.minimum(first, second) / jnp.maximum(first, second)
    return jnp.sqrt(ratios[..., 0] * ratios[..., 1])


def generalized_overlap(
    first: Float[Array, "*p 4"], second: Float[Array, "*p 4"]
) -> Float[Array, "*p"]:
    """Return the GIoU (arXiv 1902.09630) of boxes around one place, in (-1, 1].

    GIoU is the intersection over union, minus the share of the common bounding box that
    neither box covers. Boxes are given by their distances from the place.
    """

    def area(distances: Array) -> Array:
        sides = distances[..., :2] + distances[..., 2:]
        return sides[..., 0] * sides[..., 1]

    common = area(jnp.minimum(first, second))
    hull = area(jnp.maximum(first, second))
    union = area(first) + area(second) - common
    return common / union - (hull - union) / hull
