"""The built-in data set: ten classes of shapes, generated; no download, no file.

The class is the shape. An image shows several copies of it that differ in position,
size, rotation and colour, over a shaded and noisy background, all drawn independently
of the class: colour and brightness do not tell it, and what two crops of an image
share is little more than the shape. Image i of a split is a pure function of (split,
i): not of how many are asked for, nor of a run's seed.
"""

from typing import Literal

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int32, UInt8

SEED = 2010_10241  # the data set's own; changing it makes another data set
COPIES = 4  # of the shape, around the centres of the image's quarters
LUMA = np.float32([0.299, 0.587, 0.114])  # ITU-R 601, as PIL's conversion to gray
GRAY = np.float32(0.5)
NOISE = np.float32(0.04)
CHUNK = 50  # images rendered at a time, always: a float's last bit can depend on its
# place in an array, and image i must not depend on how many are asked for

Field = Float[np.ndarray, "b h w"]


def _polygon(u: Field, v: Field, corners: int, radius: float) -> Field:
    angles = 2 * np.pi * np.arange(corners) / corners
    edges = [np.float32(np.cos(a)) * u + np.float32(np.sin(a)) * v for a in angles]
    return np.maximum.reduce(edges) - np.float32(radius)


def _box(u: Field, v: Field, width: float, height: float) -> Field:
    return np.maximum(np.abs(u) - np.float32(width), np.abs(v) - np.float32(height))


def _disc(u: Field, v: Field, x: float, radius: float) -> Field:
    return np.hypot(u - np.float32(x), v) - np.float32(radius)


def _star(u: Field, v: Field) -> Field:
    """Five points: fold to one edge, from the tip (1.1, 0) to a notch of radius .45."""
    tenth = np.pi / 5
    angle = np.abs((np.arctan2(v, u) + tenth) % (2 * tenth) - tenth)
    radius = np.hypot(u, v)
    along = np.array([0.45 * np.cos(tenth) - 1.1, 0.45 * np.sin(tenth)])
    normal = np.float32([along[1], -along[0]] / np.hypot(*along))
    x, y = radius * np.cos(angle) - np.float32(1.1), radius * np.sin(angle)
    return normal[0] * x + normal[1] * y


def _heart(u: Field, v: Field) -> Field:
    """A square on its corner and a disc on each of two neighbouring sides."""
    square = _box(u, v, 0.55, 0.55)
    return np.minimum.reduce([square, _disc(u, v, 0.55, 0.55), _disc(v, u, 0.55, 0.55)])


# Signed distance to the outline (negative inside), in units of the shape's size.
SHAPES = {
    "circle": lambda u, v: _disc(u, v, 0.0, 0.9),
    "square": lambda u, v: _box(u, v, 0.8, 0.8),
    "triangle": lambda u, v: _polygon(u, v, 3, 0.55),
    "star": _star,
    "cross": lambda u, v: np.minimum(_box(u, v, 0.95, 0.3), _box(u, v, 0.3, 0.95)),
    "ring": lambda u, v: np.abs(_disc(u, v, 0.0, 0.72)) - np.float32(0.22),
    "crescent": lambda u, v: np.maximum(
        _disc(u, v, 0.0, 0.95), -_disc(u, v, 0.5, 0.75)
    ),
    "heart": _heart,
    "bar": lambda u, v: _box(u, v, 1.05, 0.28),
    "bow tie": lambda u, v: np.maximum(
        (np.abs(v) - np.abs(u)) * np.float32(0.7071), np.abs(u) - np.float32(0.9)
    ),
}
CLASS_NAMES = tuple(SHAPES)


def generate(
    split: Literal["train", "test"], n: int, size: int = 32, channels: int = 3
) -> tuple[UInt8[np.ndarray, "n h w c"], Int32[np.ndarray, " n"]]:
    """`n` images of side `size` and their labels; classes alternate, so they balance.

    About 0.3 ms per 32x32 image. One channel is the luma of the three.
    """
    stream = [SEED, ("train", "test").index(split)]
    whole = -(-n // CHUNK) * CHUNK
    drawn = _draw(np.random.SeedSequence(stream), whole)
    noise = np.random.default_rng([*stream, 1])
    labels = (np.arange(whole) % len(SHAPES)).astype(np.int32)
    images = np.empty((whole, size, size, channels), np.uint8)
    for start in range(0, whole, CHUNK):
        rows = slice(start, start + CHUNK)
        pixels = _render({k: x[rows] for k, x in drawn.items()}, labels[rows], size)
        grain = noise.standard_normal(pixels.shape, np.float32)
        pixels += NOISE * grain
        if channels == 1:
            pixels = (pixels @ LUMA)[..., None]
        images[rows] = np.clip(pixels * 255 + 0.5, 0, 255)
    return images[:n], labels[:n]


def _draw(seeds: np.random.SeedSequence, n: int) -> dict[str, np.ndarray]:
    """What differs between images; each item has its own stream of numbers."""
    streams = iter(seeds.spawn(16))

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        draws = np.random.default_rng(next(streams)).uniform(low, high, (n, *shape))
        return draws.astype(np.float32)

    # Two copies are lighter and two darker than the background, and tints cancel: the
    # mean colour of an image, which every crop of it would share, is always gray.
    lighter = np.argsort(uniform(0, 1, COPIES), axis=1) % 2 * 2 - 1
    tint = uniform(-0.3, 0.3, COPIES, 3)
    quarters = np.float32([[-1, -1], [1, -1], [-1, 1], [1, 1]]) / 2
    return {
        "radius": uniform(0.28, 0.5, COPIES),
        "centre": quarters + uniform(-0.15, 0.15, COPIES, 2),
        "rotation": uniform(0, 2 * np.pi, COPIES),
        "colour": _colour(
            0.5 + lighter * uniform(0.25, 0.4, COPIES),
            tint - tint.mean(1, keepdims=True),
        ),
        "slope": uniform(-0.2, 0.2, 2, 3),  # of the background, from gray
    }


def _colour(
    luma: Float[np.ndarray, "*n"], tint: Float[np.ndarray, "*n 3"]
) -> Float[np.ndarray, "*n 3"]:
    """RGB with a given luma and a tint that does not change it."""
    return (luma[..., None] + tint - (tint @ LUMA)[..., None]).astype(np.float32)


def _render(
    drawn: dict[str, np.ndarray], labels: Int32[np.ndarray, " b"], size: int
) -> Float[np.ndarray, "b h w 3"]:
    """Background, then the shapes over it with antialiased edges; before noise."""
    d = {k: rearrange(x, "b ... -> b 1 1 ...") for k, x in drawn.items()}
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    y, x = axis[None, :, None], axis[None, None, :]
    slope = d["slope"]
    image = slope[..., 0, :] * x[..., None] + slope[..., 1, :] * y[..., None] + GRAY
    for copy in range(COPIES):
        radius, angle = d["radius"][..., copy], d["rotation"][..., copy]
        dx, dy = x - d["centre"][..., copy, 0], y - d["centre"][..., copy, 1]
        u = (np.cos(angle) * dx + np.sin(angle) * dy) / radius
        v = (np.cos(angle) * dy - np.sin(angle) * dx) / radius
        distance = np.empty_like(u)
        for label, signed_distance in enumerate(SHAPES.values()):
            rows = labels == label
            distance[rows] = signed_distance(u[rows], v[rows])
        pixels_outside = distance * radius * np.float32(size / 2)
        coverage = np.clip(0.5 - pixels_outside, 0, 1)[..., None]
        image += coverage * (d["colour"][..., copy, :] - image)
    return image
