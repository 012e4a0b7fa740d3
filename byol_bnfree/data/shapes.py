"""The built-in data set: ten classes of coloured shapes, generated; no download.

An image is a grid of copies of one shape, its class. The grid's pitch and phase, the
size, rotation, place and colour of each copy, the background and the noise vary from
image to image. So does the hue, but around a hue that belongs to the class, as the
hues of natural classes do: without such a cue, which a crop keeps, `gn_ws` does not
leave its first, nearly constant representation within minutes. Image i of a split is
a pure function of (split, i): not of how many are asked for, nor of a run's seed.
"""

from typing import Literal

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int32, UInt8

SEED = 2010_10241  # the data set's own; changing it makes another data set
COPIES = (2.0, 4.0)  # of the shape along a side
CELLS = 5  # of the grid along a side, at most: 4 and a part
LUMA = np.float32([0.299, 0.587, 0.114])  # ITU-R 601, as PIL's conversion to gray
NOISE = np.float32(0.02)
HUE_SPREAD = 0.03  # of a class's images, in turns (standard deviation)
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
    """What differs between images; each item has its own stream of numbers.

    Lengths are in half images (`pitch`) or half cells; angles in radians; colours in
    [0, 1]; an item with an axis of `CELLS` squared is drawn for each copy.
    """
    streams = iter(seeds.spawn(16))
    cells = CELLS**2

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        draws = np.random.default_rng(next(streams)).uniform(low, high, (n, *shape))
        return draws.astype(np.float32)

    luma = uniform(0.2, 0.4)
    background = _colour(luma, uniform(-0.15, 0.15, 3))
    image_hue = np.random.default_rng(next(streams)).normal(0, HUE_SPREAD, (n, 1))
    class_hue = np.arange(n)[:, None] * 3 % len(SHAPES) / len(SHAPES)
    hue = class_hue + image_hue + uniform(-0.03, 0.03, cells)  # in turns
    tint = uniform(0.3, 0.45, 1, 1) * _on_color_wheel(hue)
    tint += uniform(-0.05, 0.05, cells, 3) + background[:, None] - luma[:, None, None]
    return {
        "pitch": np.exp(-uniform(*np.log(COPIES))) * 2,
        "phase": uniform(0, 1, 2),
        "radius": uniform(0.7, 0.95, cells),
        "centre": uniform(-0.1, 0.1, cells, 2),
        "rotation": uniform(-0.3, 0.3, cells),
        "colour": _colour(luma[:, None] + uniform(0.2, 0.35, cells), tint),
        "background": background,
    }


def _on_color_wheel(turns: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n 3"]:
    """RGB of length about 1 around gray."""
    thirds = np.arange(3) / 3
    return np.cos(2 * np.pi * (turns[..., None] - thirds)).astype(np.float32)


def _colour(
    luma: Float[np.ndarray, "*n"], tint: Float[np.ndarray, "*n 3"]
) -> Float[np.ndarray, "*n 3"]:
    """RGB with a given luma and a tint that does not change it."""
    return (luma[..., None] + tint - (tint @ LUMA)[..., None]).astype(np.float32)


def _render(
    drawn: dict[str, np.ndarray], labels: Int32[np.ndarray, " b"], size: int
) -> Float[np.ndarray, "b h w 3"]:
    """Background, then the shapes over it with antialiased edges; before noise."""
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    pitch = rearrange(drawn["pitch"], "b -> b 1 1")
    phase = rearrange(drawn["phase"], "b two -> two b 1 1")
    x = (axis[None, None, :] + 1) / pitch + phase[0]  # in cells
    y = (axis[None, :, None] + 1) / pitch + phase[1]
    column, row = np.floor(x), np.floor(y)
    cell = (row * CELLS + column).astype(np.int32)

    def of_cell(values: np.ndarray) -> np.ndarray:
        """[b cells ...] to [b h w ...]: each pixel's own copy."""
        return values[np.arange(len(cell))[:, None, None], cell]

    radius, angle = of_cell(drawn["radius"]), of_cell(drawn["rotation"])
    centre = of_cell(drawn["centre"])
    dx = 2 * (x - column) - 1 - centre[..., 0]
    dy = 2 * (y - row) - 1 - centre[..., 1]
    u = (np.cos(angle) * dx + np.sin(angle) * dy) / radius
    v = (np.cos(angle) * dy - np.sin(angle) * dx) / radius
    distance = np.empty_like(u)
    for label, signed_distance in enumerate(SHAPES.values()):
        rows = labels == label
        distance[rows] = signed_distance(u[rows], v[rows])
    pixels_outside = distance * radius * pitch * np.float32(size / 4)
    coverage = np.clip(0.5 - pixels_outside, 0, 1)[..., None]
    background = rearrange(drawn["background"], "b c -> b 1 1 c")
    return background + coverage * (of_cell(drawn["colour"]) - background)
