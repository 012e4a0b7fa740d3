"""The built-in data set: ten classes of coloured shapes, generated without a download.

An image is a grid of copies of one shape. Its class is the shape together with the
colours of shape and ground, as in "red disc on green". Everything else varies:

- The brightness and its gradient across the image vary widely. Augmentation changes
  them too, so BYOL learns to ignore what an untrained network mostly sees.
- Brightness, size, place and rotation vary from copy to copy. Two crops of an image
  share little besides the class: the pitch, the saturation and a small shift of hue.
  BYOL keeps whatever two crops share, related to the class or not.
- The hues are a third of a turn apart. Hue jitter shifts two views by up to 0.2 turns
  against each other, and would mix up classes with closer hues.

Every crop shows the colours. With classes that differ only in shape, `gn_ws` stays at
its initial, nearly constant representation for more than minutes. Image i of a split
depends on (split, i) only. It depends neither on the number of images nor on the seed
of a run.
"""

from typing import Literal, NamedTuple

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int32, UInt8

SEED = 2010_10241  # of the data set; another seed gives another data set
COPIES = (2.0, 4.0)  # smallest and largest number of shapes along a side
CELLS = 5  # largest number of grid cells along a side: 4 whole ones and a part
LUMA = np.float32([0.299, 0.587, 0.114])  # ITU-R 601, as in PIL's conversion to gray
NOISE = np.float32(0.02)  # standard deviation, with colours in [0, 1]
HUE_SPREAD = 0.02  # standard deviation of the hue within a class, in turns
# Images are always rendered in chunks of this size. The last bit of a float can depend
# on its place in an array, but image i must not depend on the number of images.
CHUNK = 50

Field = Float[np.ndarray, "*b h w"]


def _box(u: Field, v: Field, width: float, height: float) -> Field:
    return np.maximum(np.abs(u) - np.float32(width), np.abs(v) - np.float32(height))


# Signed distance to the outline (negative inside), in units of the shape's size.
SHAPES = {
    "disc": lambda u, v: np.hypot(u, v) - np.float32(0.9),
    "cross": lambda u, v: np.minimum(_box(u, v, 0.95, 0.3), _box(u, v, 0.3, 0.95)),
}
HUES = {"red": 0.0, "green": 1 / 3, "blue": 2 / 3}  # in turns; gray has no hue


class Look(NamedTuple):
    """The properties that all images of a class share."""

    colour: str
    shape: str
    ground: str


CLASSES = (
    Look("red", "disc", "green"),
    Look("red", "cross", "blue"),
    Look("green", "disc", "red"),
    Look("green", "cross", "blue"),
    Look("blue", "disc", "red"),
    Look("blue", "cross", "green"),
    Look("gray", "disc", "red"),
    Look("gray", "cross", "green"),
    Look("gray", "disc", "blue"),
    Look("red", "cross", "gray"),
)
CLASS_NAMES = tuple(f"{x.colour} {x.shape} on {x.ground}" for x in CLASSES)


def generate(
    split: Literal["train", "test"], n: int, size: int = 32, channels: int = 3
) -> tuple[UInt8[np.ndarray, "n h w c"], Int32[np.ndarray, " n"]]:
    """Generate `n` images with side `size`, and their labels.

    Classes alternate, so they are balanced. An image of 32x32 pixels takes about
    0.3 ms. With one channel the image is the luma of the coloured image.
    """
    stream = [SEED, ("train", "test").index(split)]
    whole = -(-n // CHUNK) * CHUNK
    labels = (np.arange(whole) % len(CLASSES)).astype(np.int32)
    drawn = _draw(np.random.SeedSequence(stream), labels)
    noise = np.random.default_rng([*stream, 1])
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


def _draw(
    seeds: np.random.SeedSequence, labels: Int32[np.ndarray, " n"]
) -> dict[str, np.ndarray]:
    """Draw the properties that differ between images, each from its own random stream.

    `pitch` is in half images and other lengths are in half cells. Angles are in
    radians, colours in [0, 1]. `shade` is the change of brightness from the middle to
    an edge. Properties with an axis of `CELLS` squared are drawn for each copy.
    """
    streams = iter(seeds.spawn(16))
    cells = CELLS**2

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        draws = np.random.default_rng(next(streams)).uniform(
            low, high, (len(labels), *shape)
        )
        return draws.astype(np.float32)

    turns = np.random.default_rng(next(streams)).normal(0, HUE_SPREAD, (len(labels), 2))
    tint = uniform(0.2, 0.35, 2, 1) * _class_tints(turns, labels)
    tint += uniform(-0.05, 0.05, 1, 3)  # tint of the light, on copies and ground
    luma = uniform(0.2, 0.75, 1)
    copy_luma = luma + uniform(-0.35, 0.35, cells)
    copy_tint = tint[:, :1] + uniform(-0.05, 0.05, cells, 3)
    return {
        "pitch": np.exp(-uniform(*np.log(COPIES))) * 2,
        "phase": uniform(0, 1, 2),
        "radius": uniform(0.7, 0.95, cells),
        "centre": uniform(-0.1, 0.1, cells, 2),
        "rotation": uniform(-0.3, 0.3, cells),
        "shade": uniform(-0.2, 0.2, 2),
        "colour": colour_of(copy_luma, copy_tint),
        "background": colour_of(luma[:, 0], tint[:, 1] + uniform(-0.05, 0.05, 3)),
    }


def _class_tints(
    turns: Float[np.ndarray, "n 2"], labels: Int32[np.ndarray, " n"]
) -> Float[np.ndarray, "n 2 3"]:
    """Return the RGB offset from gray of each image's copies and ground.

    Its length is about 1, or 0 for gray. `turns` shifts the hues within a class.
    """
    names = [(look.colour, look.ground) for look in CLASSES]
    hue = np.array([[HUES.get(name, 0.0) for name in pair] for pair in names])
    coloured = np.array([[name in HUES for name in pair] for pair in names])
    on_wheel = (hue[labels] + turns)[..., None] - np.arange(3) / 3
    tints = np.cos(2 * np.pi * on_wheel) * coloured[labels][..., None]
    return tints.astype(np.float32)


def colour_of(
    luma: Float[np.ndarray, "*n"], tint: Float[np.ndarray, "*n 3"]
) -> Float[np.ndarray, "*n 3"]:
    """Return RGB with a given luma. The tint does not change the luma."""
    return (luma[..., None] + tint - (tint @ LUMA)[..., None]).astype(np.float32)


def _render(
    drawn: dict[str, np.ndarray], labels: Int32[np.ndarray, " b"], size: int
) -> Float[np.ndarray, "b h w 3"]:
    """Draw the background, antialiased shapes and shade. Noise is added later."""
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    pitch = rearrange(drawn["pitch"], "b -> b 1 1")
    phase = rearrange(drawn["phase"], "b two -> two b 1 1")
    x = (axis[None, None, :] + 1) / pitch + phase[0]  # in grid cells
    y = (axis[None, :, None] + 1) / pitch + phase[1]
    column, row = np.floor(x), np.floor(y)
    cell = (row * CELLS + column).astype(np.int32)

    def of_cell(values: np.ndarray) -> np.ndarray:
        """Give each pixel the value of its cell: [b cells ...] to [b h w ...]."""
        return values[np.arange(len(cell))[:, None, None], cell]

    radius, angle = of_cell(drawn["radius"]), of_cell(drawn["rotation"])
    centre = of_cell(drawn["centre"])
    dx = 2 * (x - column) - 1 - centre[..., 0]
    dy = 2 * (y - row) - 1 - centre[..., 1]
    u = (np.cos(angle) * dx + np.sin(angle) * dy) / radius
    v = (np.cos(angle) * dy - np.sin(angle) * dx) / radius
    distance = np.empty_like(u)
    for label, look in enumerate(CLASSES):
        rows = labels == label
        distance[rows] = SHAPES[look.shape](u[rows], v[rows])
    # Half a cell is pitch * size / 4 pixels. A pixel whose middle lies on the edge is
    # covered by half.
    pixels_outside = distance * radius * pitch * np.float32(size / 4)
    coverage = np.clip(0.5 - pixels_outside, 0, 1)[..., None]
    background = rearrange(drawn["background"], "b c -> b 1 1 c")
    shade = rearrange(drawn["shade"], "b two -> two b 1 1")
    light = shade[0] * axis[None, None, :] + shade[1] * axis[None, :, None]
    surface = background + coverage * (of_cell(drawn["colour"]) - background)
    return surface + light[..., None]
