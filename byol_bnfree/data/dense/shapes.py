"""Generated scenes that know their masks, boxes and depth, without a download.

A scene has one to five discs and crosses on a wall, some in front of others. A class is
a colour together with a shape, as in "red disc", which the built-in data set of
`data.shapes` also has. The depth can be seen: a far object is small and pale, as in
haze, and a near object hides a far one.

Example i depends on (seed, split, i) only.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from byol_bnfree.data import shapes
from byol_bnfree.data.dense.example import Example, make_example
from byol_bnfree.data.fingerprint import checksum

COLOURS = (*shapes.HUES, "gray")
OBJECTS = tuple((colour, shape) for colour in COLOURS for shape in shapes.SHAPES)
BOX_NAMES = tuple(f"{colour} {shape}" for colour, shape in OBJECTS)
WALL = 4.0  # depth of the wall behind all objects, metres
NEAR, FAR = 1.0, 3.0  # depths of objects
LARGEST = 0.28  # radius of an object at depth 1, as a share of the picture
HAZE = 0.5  # share of the haze in the colour of the wall
MOST_OBJECTS = 5  # in a scene
LEAST_PIXELS = 12  # an object that shows fewer pixels at 64 x 64 is left out
LEAST_VISIBLE = 0.25  # an object that shows a smaller share of itself is difficult
REMEMBERED = 1024  # scenes in memory; one of 64 x 64 pixels has 50 KB
TARGETS = frozenset({"mask", "depth", "boxes"})


class _Object(NamedTuple):
    kind: int
    depth: float
    radius: float  # as a share of the picture's side
    centre: Float[np.ndarray, "2"]  # y, x in [0, 1]
    turn: float  # radians
    luma: float
    tint: Float[np.ndarray, "3"]


class _Seen(NamedTuple):
    kind: int
    pixels: int  # of the whole object inside the picture
    visible: Bool[np.ndarray, "h w"]


@dataclass(frozen=True)
class Scenes:
    """A split of the generated scenes; see `example.DenseSource`."""

    split: Literal["train", "test"]
    total: int
    size: int = 64
    channels: int = 3
    seed: int = shapes.SEED
    name: str = "shapes"
    targets: frozenset[str] = TARGETS
    class_names: tuple[str, ...] = ("wall", *BOX_NAMES)
    box_names: tuple[str, ...] = BOX_NAMES
    location: str = ""

    def __len__(self) -> int:
        return self.total

    @property
    def identity(self) -> str:
        drawn = ("scenes", self.seed, self.split, self.total, self.size)
        return checksum(*drawn, *(() if self.channels == 3 else (self.channels,)))

    @property
    def fingerprint(self) -> str:
        return self.identity

    def example(self, index: int) -> Example:
        """Return scene `index` of the split."""
        place = ("train", "test").index(self.split), 1, index
        return _scene_at((self.seed, *place), self.size, self.channels)

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        return [f"shapes/{self.split}/{index}" for index in indices]


@functools.lru_cache(maxsize=REMEMBERED)
def _scene_at(stream: tuple[int, ...], size: int, channels: int) -> Example:
    """Draw a scene, and remember it: drawing takes as long as a small training step."""
    example = scene(np.random.default_rng(stream), size, channels)
    for array in example.values():
        array.flags.writeable = False
    return example


def scene(draws: np.random.Generator, size: int = 64, channels: int = 3) -> Example:
    """Draw one scene. The objects are painted from the farthest to the nearest."""
    luma = draws.uniform(0.3, 0.7)
    surface, haze = _wall(draws, luma, size)
    mask, depth = np.zeros((size, size), int), np.full((size, size), WALL, np.float32)
    seen: list[_Seen] = []
    for thing in _objects(draws, luma):
        distance = _distance(thing, size)
        coverage = np.clip(0.5 - distance, 0, 1)[..., None]
        colour = shapes.colour_of(np.float32([thing.luma]), thing.tint[None])[0]
        share = np.float32(HAZE * (thing.depth - NEAR) / (WALL - NEAR))
        surface += coverage * ((1 - share) * colour + share * haze - surface)
        inside = distance < 0
        mask[inside], depth[inside] = thing.kind + 1, thing.depth
        # A nearer object hides parts of those behind it, and boxes hold visible parts.
        seen = [other._replace(visible=other.visible & ~inside) for other in seen]
        seen.append(_Seen(thing.kind, int(inside.sum()), inside))
    surface += shapes.NOISE * draws.standard_normal(surface.shape, np.float32)
    return make_example(_pixels(surface, channels), mask, depth, **_boxes(seen, size))


def _objects(draws: np.random.Generator, wall_luma: float) -> Iterator[_Object]:
    """Yield the objects of a scene, the farthest first. All differ from the wall."""
    count = draws.integers(1, MOST_OBJECTS + 1)
    for depth in np.sort(draws.uniform(NEAR, FAR, count))[::-1]:
        kind = int(draws.integers(len(OBJECTS)))
        contrast = draws.uniform(0.15, 0.3) * (1 if draws.integers(2) else -1)
        yield _Object(
            kind=kind,
            depth=float(depth),
            radius=LARGEST / depth * draws.uniform(0.85, 1.15),
            centre=draws.uniform(0.08, 0.92, 2).astype(np.float32),
            turn=draws.uniform(-0.3, 0.3),
            luma=wall_luma + contrast,
            tint=_tint(OBJECTS[kind][0], draws),
        )


def _tint(colour: str, draws: np.random.Generator) -> Float[np.ndarray, "3"]:
    """Return the offset from gray of a colour, which varies within a class."""
    turn = shapes.HUES.get(colour, 0.0) + draws.normal(0, shapes.HUE_SPREAD)
    strength = draws.uniform(0.2, 0.35) * (colour in shapes.HUES)
    wheel = np.cos(2 * np.pi * (turn - np.arange(3) / 3))
    return np.float32(strength * wheel + draws.uniform(-0.03, 0.03, 3))


def _wall(
    draws: np.random.Generator, luma: float, size: int
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "3"]]:
    """Return the empty wall, and the colour of the haze in front of it."""
    tint = np.float32(draws.uniform(-0.05, 0.05, (1, 3)))
    haze = shapes.colour_of(np.float32([luma]), tint)[0]
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    shade = np.float32(draws.uniform(-0.15, 0.15, 2))
    light = shade[0] * axis[:, None] + shade[1] * axis[None, :]
    return haze + light[..., None], haze


def _distance(thing: _Object, size: int) -> Float[np.ndarray, "h w"]:
    """Return the distance of each pixel from the outline, in pixels; negative inside.

    It is approximate away from the outline.
    """
    axis = (np.arange(size) + 0.5) / size
    y, x = (axis[:, None] - thing.centre[0], axis[None] - thing.centre[1])
    u = (np.cos(thing.turn) * x + np.sin(thing.turn) * y) / thing.radius
    v = (np.cos(thing.turn) * y - np.sin(thing.turn) * x) / thing.radius
    u, v = np.float32(u), np.float32(v)
    shape = OBJECTS[thing.kind][1]
    return np.float32(shapes.SHAPES[shape](u, v) * thing.radius * size)


def _boxes(seen: list[_Seen], size: int) -> dict[str, np.ndarray]:
    """Return boxes around the parts of objects that show, the nearest object first."""
    least = LEAST_PIXELS * (size / 64) ** 2
    shown = [(thing, int(thing.visible.sum())) for thing in reversed(seen)]
    kept = [(thing, pixels) for thing, pixels in shown if pixels >= least]
    boxes = [box_around(thing.visible) for thing, _ in kept]
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "box_class": np.array([thing.kind for thing, _ in kept], int),
        "difficult": np.array([p < LEAST_VISIBLE * t.pixels for t, p in kept], bool),
    }


def box_around(visible: Bool[np.ndarray, "h w"]) -> tuple[int, int, int, int]:
    """Return y0, x0, y1, x1 of the smallest box around True pixels."""
    rows, columns = (np.flatnonzero(visible.any(axis=axis)) for axis in (1, 0))
    first, last = (rows[0], columns[0]), (rows[-1], columns[-1])
    return int(first[0]), int(first[1]), int(last[0]) + 1, int(last[1]) + 1


def _pixels(
    surface: Float[np.ndarray, "h w 3"], channels: int
) -> UInt8[np.ndarray, "h w c"]:
    if channels == 1:
        surface = (surface @ shapes.LUMA)[..., None]
    return np.clip(surface * 255 + 0.5, 0, 255).astype(np.uint8)
