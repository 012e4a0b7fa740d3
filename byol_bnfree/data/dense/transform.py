"""One geometric draw moves a picture, its mask, its depth and its boxes together.

A draw resizes the picture, cuts a window, and may mirror it. Parts of the window that
lie outside the picture are filled: the mask is ignored there and the depth unknown.
"""

from typing import NamedTuple

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from PIL import Image

from byol_bnfree.data.dense.example import IGNORE, PADDING, Example
from byol_bnfree.data.geometry import from_array, to_array

HALF = 128  # gray, around a picture that is smaller than its window
LEAST_VISIBLE = 0.25  # share of a box below which it is difficult
BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


class Draw(NamedTuple):
    """A resize to (height, width), a window at (top, left), and perhaps a mirror.

    `top` and `left` are pixels of the resized picture. They are negative where the
    window begins outside of it.
    """

    height: int
    width: int
    top: int
    left: int
    flip: bool = False
    zoom: float = 1.0
    """The drawn scale, without a fixed one that all pictures have."""


def random_draw(
    draws: np.random.Generator,
    size: tuple[int, int],
    window: tuple[int, int],
    scales: tuple[float, float] = (1.0, 1.0),
    flip: bool = True,
    central: bool = False,
) -> Draw:
    """Draw a scale, a place of the window, and a mirror with probability 1/2.

    The window lies inside the resized picture where it fits, and around it elsewhere.
    With `central` it lies at the centre.
    """
    height, width = _scaled(size, draws.uniform(*scales))
    if central:
        top, left = central_draw((height, width), window)[2:4]
    else:
        top, left = (
            int(np.sign(free) * draws.integers(0, abs(free) + 1))
            for free in (height - window[0], width - window[1])
        )
    mirrored = flip and bool(draws.integers(2))
    # Both sides are rounded to pixels, so their scales differ a little.
    zoom = float(np.sqrt(height * width / (size[0] * size[1])))
    return Draw(height, width, top, left, mirrored, zoom)


def central_draw(size: tuple[int, int], window: tuple[int, int]) -> Draw:
    """Return the window at the centre, without a mirror. Tests use it."""
    height, width = size
    top, left = (height - window[0]) // 2, (width - window[1]) // 2
    return Draw(height, width, top, left)


def transform(
    example: Example,
    draw: Draw,
    window: tuple[int, int],
    *,
    depth_by_scale: bool = False,
    fill: int = HALF,
) -> Example:
    """Apply a draw to the picture and to all its targets; all get the window's size.

    A box keeps what lies in the window. It becomes padding if nothing does, and
    difficult if less than a quarter does.

    Args:
      example: see `byol_bnfree.data.dense.example`.
      draw: of `random_draw` or `central_draw`.
      window: height and width of the result.
      depth_by_scale: divide the depth by the draw's zoom: a picture that is twice as
        large looks like one from half the distance.
      fill: value of the pixels around the picture.
    """
    seen = _seen(draw, window)

    def place(array: np.ndarray, empty: float) -> np.ndarray:
        cut = _around(array, draw, seen, window, empty)
        return np.ascontiguousarray(cut[:, ::-1]) if draw.flip else cut

    # Masks and depths are not interpolated: the mean of two classes is another class,
    # and 0 means that a depth is unknown.
    depth = _nearest(example["depth"], draw, seen)
    moved = {
        "image": place(_resized_picture(example["image"], draw, seen), fill),
        "mask": place(_nearest(example["mask"], draw, seen), IGNORE),
        "depth": place(depth / np.float32(draw.zoom if depth_by_scale else 1), 0),
    }
    return moved | _moved_boxes(example, draw, window)


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    height, width = (max(1, round(side * scale)) for side in size)
    return height, width


def _seen(draw: Draw, window: tuple[int, int]) -> tuple[slice, slice]:
    """Return the rows and columns of the resized picture that lie in the window."""
    sides = zip((draw.top, draw.left), window, (draw.height, draw.width), strict=True)
    rows, columns = (
        slice(max(start, 0), max(min(start + length, limit), max(start, 0)))
        for start, length, limit in sides
    )
    return rows, columns


def _resized_picture(
    image: UInt8[np.ndarray, "h w c"], draw: Draw, seen: tuple[slice, slice]
) -> UInt8[np.ndarray, "h2 w2 c"]:
    """Resize, and return what is seen. The rest of a large picture costs no time."""
    rows, columns = seen
    if image.shape[:2] == (draw.height, draw.width):
        return image[seen]
    size = columns.stop - columns.start, rows.stop - rows.start
    if 0 in size:
        return np.zeros((size[1], size[0], image.shape[2]), image.dtype)
    down, across = image.shape[0] / draw.height, image.shape[1] / draw.width
    box = (
        *(columns.start * across, rows.start * down),
        # Rounding must not lead out of the picture.
        min(columns.stop * across, image.shape[1]),
        min(rows.stop * down, image.shape[0]),
    )
    return to_array(from_array(image).resize(size, BILINEAR, box))


def _nearest(
    array: Int[np.ndarray, "h w"] | Float[np.ndarray, "h w"],
    draw: Draw,
    seen: tuple[slice, slice],
) -> np.ndarray:
    """Resize without mixing: a mean of classes, or with unknown depth, is nonsense.

    Half-pixel centres, as in the resize of pictures. Returns what is seen.
    """
    rows, columns = (
        np.minimum(
            ((np.arange(part.start, part.stop) + 0.5) * (old / new)).astype(int),
            old - 1,
        )
        for part, new, old in zip(
            seen, (draw.height, draw.width), array.shape, strict=True
        )
    )
    return array[rows[:, None], columns[None]]


def _around(
    part: np.ndarray,
    draw: Draw,
    seen: tuple[slice, slice],
    window: tuple[int, int],
    empty: float,
) -> np.ndarray:
    """Return the window with what is seen at its place. Pixels outside are `empty`."""
    cut = np.full((*window, *part.shape[2:]), empty, part.dtype)
    rows, columns = (
        slice(side.start - start, side.stop - start)
        for side, start in zip(seen, (draw.top, draw.left), strict=True)
    )
    cut[rows, columns] = part
    return cut


def _moved_boxes(example: Example, draw: Draw, window: tuple[int, int]) -> Example:
    height, width = example["image"].shape[:2]
    ratios = np.float32([draw.height / height, draw.width / width])
    start = np.float32([draw.top, draw.left])
    corners = rearrange(example["boxes"], "m (two yx) -> m two yx", two=2)
    moved = corners * ratios - start
    if draw.flip:
        x0, x1 = (window[1] - moved[:, k, 1] for k in (1, 0))
        moved = np.stack([moved[..., 0], np.stack([x0, x1], axis=1)], axis=-1)
    inside = np.clip(moved, 0, np.float32(window))
    whole, seen = _areas(moved), _areas(inside)
    present = (example["box_class"] != PADDING) & (seen > 0)
    hidden = seen < LEAST_VISIBLE * whole
    return {
        "boxes": rearrange(inside, "m two yx -> m (two yx)") * present[:, None],
        "box_class": np.where(present, example["box_class"], PADDING).astype(np.int32),
        "difficult": (example["difficult"] | hidden) & present,
    }


def _areas(corners: Float[np.ndarray, "m 2 2"]) -> Float[np.ndarray, " m"]:
    return np.prod(np.maximum(corners[:, 1] - corners[:, 0], 0), axis=-1)
