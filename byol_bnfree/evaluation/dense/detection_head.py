"""FCOS on the last feature map: every place of the map predicts one box.

P1, the BYOL paper (arXiv 2006.07733), fine-tunes a Faster R-CNN on the map of stride 16
(appendix D.5). That detector needs RoIAlign, of which no maintained implementation in
JAX can be installed without TensorFlow (see `boxes`). FCOS (arXiv 1904.01355) needs
none: its head is convolutions, so the norms of an encoder reach it unchanged. As in the
Faster R-CNN of P1 there is one map and no feature pyramid.

We follow the paper with its later improvements: centre-ness beside the distances,
distances in units of the stride, GIoU, and positives near the centre of their object.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from byol_bnfree.evaluation.dense.places import Grid, places, stride_of
from byol_bnfree.models.norm import Layers

PRIOR = 0.01  # probability of each class at the start, so that background costs little
LARGEST = 8.0  # exp of it is 2981 strides; a larger exponent could overflow


class Raw(NamedTuple):
    """What the head returns for every place of the map."""

    logits: Float[Array, "b h w k"]
    distances: Float[Array, "b h w 4"]
    """From the place to the top, left, bottom and right of its box, in strides."""
    centre: Float[Array, "b h w"]
    """Logit of the centre-ness: 1 in the centre of a box, 0 at its edge."""


class DetectionHead(nn.Module):
    """Two towers of `depth` 3x3 convolutions with norm and ReLU, and the predictions.

    The paper has a depth of 4 and a width of 256. At depth 0 the predictions are linear
    functions of the map. Predicting convolutions have a bias and no norm, and `gn_ws`
    does not standardize their kernels.
    """

    num_classes: int
    layers: Layers
    depth: int = 4
    width: int = 256

    @nn.compact
    def __call__(self, maps: Float[Array, "b h w c"], train: bool = False) -> Raw:
        prior = -jnp.log((1 - PRIOR) / PRIOR)
        kinds, boxes = (self._tower(maps, n, train) for n in ("class", "box"))
        logits = _predict(self.num_classes, "class_scores", prior)(kinds)
        exponents = _predict(4, "distances")(boxes)
        scale = self.param("distance_scale", nn.initializers.ones, ())
        centre = _predict(1, "centre")(boxes)[..., 0]
        return Raw(logits, jnp.exp(jnp.minimum(scale * exponents, LARGEST)), centre)

    def _tower(self, x: Array, name: str, train: bool) -> Float[Array, "b h w d"]:
        conv, norm, relu = self.layers.conv, self.layers.norm, self.layers.relu
        for index in range(1, self.depth + 1):
            x = conv(self.width, (3, 3), name=f"{name}_conv{index}")(x)
            x = relu(norm(name=f"{name}_norm{index}")(x, train))
        return x.astype(jnp.float32)


def _predict(channels: int, name: str, bias: Array | float = 0.0) -> nn.Module:
    return nn.Conv(
        channels,
        (3, 3),
        kernel_init=nn.initializers.normal(0.01),
        bias_init=nn.initializers.constant(bias),
        name=name,
    )


class Candidates(NamedTuple):
    """The best predictions for each picture of a batch, best first."""

    boxes: Float[Array, "b n 4"]
    """y0, x0, y1, x1 in pixels, inside the picture."""
    scores: Float[Array, "b n"]
    """Geometric mean of the class's probability and the centre-ness, in [0, 1]."""
    classes: Int[Array, "b n"]


def candidates(
    raw: Raw, size: tuple[int, int], grid: Grid, most: int = 1000
) -> Candidates:
    """Return the `most` best pairs of place and class of each picture.

    `size` is the height and width of the pictures. The map may reach beyond them.
    `grid` is the network's.
    Non-maximum suppression on the host (`boxes.keep_best`) takes them further.
    """
    _, height, width, classes = raw.logits.shape
    middle = places(size, (height, width), grid)[None]
    reach = stride_of(size, (height, width)) * raw.distances
    limits = jnp.array(size, jnp.float32)[None, None, None]
    low = jnp.clip(middle - reach[..., :2], 0, limits)
    high = jnp.clip(middle + reach[..., 2:], 0, limits)
    corners = jnp.concatenate([low, high], axis=-1)
    scores = jnp.sqrt(
        jax.nn.sigmoid(raw.logits) * jax.nn.sigmoid(raw.centre)[..., None]
    )
    flat = scores.reshape(len(scores), height * width * classes)
    best, rows = jax.lax.top_k(flat, min(most, flat.shape[1]))
    corners = corners.reshape(len(scores), height * width, 4)
    chosen = jnp.take_along_axis(corners, (rows // classes)[..., None], axis=1)
    return Candidates(chosen, best, rows % classes)
