"""One draw moves a picture and its targets together."""

import numpy as np
import pytest
from PIL import Image

from byol_bnfree.data.dense.example import IGNORE, PADDING, make_example, stacked
from byol_bnfree.data.dense.transform import (
    Draw,
    central_draw,
    random_draw,
    transform,
)
from byol_bnfree.errors import InputError

NOTHING = Draw(12, 16, 0, 0)


def corner_example(y: int = 3, x: int = 5, side: int = 4):
    """A white square: in the picture, the mask, the depth and as a box."""
    square = np.zeros((12, 16), bool)
    square[y : y + side, x : x + side] = True
    return make_example(
        np.repeat(square[..., None], 3, axis=2).astype(np.uint8) * 255,
        mask=square.astype(int),
        depth=np.where(square, 2, 4).astype(np.float32),
        boxes=np.float32([[y, x, y + side, x + side]]),
        box_class=np.array([1]),
        max_boxes=3,
    )


def square_of(array: np.ndarray) -> list[int]:
    """y0, x0, y1, x1 of the True pixels."""
    rows, columns = (np.flatnonzero(array.any(axis)) for axis in (1, 0))
    return [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("height", "width", "top", "left"),
    [(12, 16, 0, 0), (24, 32, 5, 7), (24, 32, -3, -2), (36, 48, 8, 10)],
)
def test_a_corner_lands_at_one_place_in_picture_mask_depth_and_box(
    height, width, top, left, flip
):
    draw = Draw(height, width, top, left, flip)
    moved = transform(corner_example(), draw, (24, 28), fill=0)
    box = square_of(moved["mask"] == 1)
    assert square_of(moved["image"][..., 0] > 127) == box
    assert square_of(moved["depth"] == 2) == box
    assert moved["boxes"][0].tolist() == box and moved["box_class"][0] == 1


def test_around_the_picture_nothing_is_known():
    moved = transform(corner_example(), Draw(12, 16, -2, -2), (20, 20), fill=7)
    assert (moved["mask"][:2] == IGNORE).all() and (moved["depth"][:2] == 0).all()
    assert (moved["image"][14:] == 7).all() and (moved["mask"][14:] == IGNORE).all()
    assert (moved["mask"][2:14, 2:18] != IGNORE).all()


@pytest.mark.parametrize("size", [(7, 90), (23, 17), (61, 40)])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_a_window_equals_the_part_of_the_whole_resized_picture(size, channels, seed):
    draws = np.random.default_rng(seed)
    image = draws.integers(0, 256, (*size, channels), dtype=np.uint8)
    example = make_example(image, mask=draws.integers(0, 5, size))
    draw = random_draw(draws, size, (24, 24), (0.4, 2.5), flip=False)
    whole = draw._replace(top=0, left=0)
    all_of_it = transform(example, whole, (draw.height, draw.width))
    for channel in range(channels):
        band = Image.fromarray(image[..., channel])
        resized = band.resize((draw.width, draw.height), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(all_of_it["image"][..., channel], resized)
    # The padding makes windows that reach beyond the picture easy to cut.
    cut = tuple(slice(start + 60, start + 84) for start in (draw.top, draw.left))
    found = transform(example, draw, (24, 24))
    expected = np.pad(all_of_it["mask"], 60, constant_values=IGNORE)[cut]
    np.testing.assert_array_equal(found["mask"], expected)
    padding = ((60, 60), (60, 60), (0, 0))
    expected = np.pad(all_of_it["image"], padding, constant_values=128)[cut]
    # Pillow rounds between rows and columns, and may take either first.
    errors = abs(found["image"].astype(int) - expected)
    assert errors.max() <= 2 and errors.mean() < 0.4


def test_a_window_beside_the_picture_is_empty():
    for top, left in ((24, 0), (0, 30), (-40, 0), (-40, -40)):
        for height in (12, 24):
            moved = transform(corner_example(), Draw(height, 16, top, left), (8, 8))
            assert (moved["mask"] == IGNORE).all() and (moved["depth"] == 0).all()
            assert (moved["image"] == 128).all() and not moved["boxes"].any()


def test_a_mirror_twice_is_no_mirror():
    example = corner_example()
    flip = NOTHING._replace(flip=True)
    twice = transform(transform(example, flip, (12, 16)), flip, (12, 16))
    for key, array in example.items():
        np.testing.assert_array_equal(twice[key], array)


def test_a_central_draw_of_training_lies_where_that_of_tests_does():
    draws = [
        random_draw(np.random.default_rng(k), (20, 30), (10, 12), central=True)
        for k in range(9)
    ]
    wanted = central_draw((20, 30), (10, 12))
    assert {draw._replace(flip=False) for draw in draws} == {wanted}
    assert {draw.flip for draw in draws} == {True, False}


def test_a_box_is_cut_at_the_window_then_difficult_then_gone():
    def after(top: int):
        moved = transform(corner_example(), Draw(12, 16, top, 0), (12, 16))
        return moved["boxes"][0].tolist(), moved["box_class"][0], moved["difficult"][0]

    assert after(5) == ([0, 5, 2, 9], 1, False)
    assert after(6) == ([0, 5, 1, 9], 1, False)  # a quarter is left
    assert after(7) == ([0, 0, 0, 0], PADDING, False)
    wide = corner_example(side=6)
    moved = transform(wide, Draw(12, 16, 8, 0), (12, 16))
    assert moved["difficult"].tolist() == [True, False, False]


def test_depth_is_divided_by_the_drawn_scale_where_asked():
    draw = random_draw(np.random.default_rng(0), (12, 16), (24, 32), (2.0, 2.0))
    assert draw.zoom == 2
    kept = transform(corner_example(), draw, (24, 32))["depth"]
    halved = transform(corner_example(), draw, (24, 32), depth_by_scale=True)["depth"]
    assert set(kept.flat) == {2, 4} and set(halved.flat) == {1, 2}


def test_windows_are_inside_large_pictures_and_around_small_ones():
    draws = np.random.default_rng(0)
    for _ in range(50):
        large = random_draw(draws, (20, 30), (10, 12))
        assert 0 <= large.top <= 10 and 0 <= large.left <= 18
        small = random_draw(draws, (8, 8), (10, 12), scales=(0.5, 1.0))
        assert small.height - 10 <= small.top <= 0 and small.left <= 0
    assert central_draw((20, 30), (10, 12)) == (20, 30, 5, 9, False, 1.0)
    assert central_draw((8, 8), (10, 12)) == (8, 8, -1, -2, False, 1.0)


def test_too_many_boxes_are_an_error():
    boxes = np.zeros((5, 4), np.float32)
    with pytest.raises(InputError, match="5 boxes.*holds 4"):
        make_example(np.zeros((4, 4, 3), np.uint8), boxes=boxes, max_boxes=4)


@pytest.mark.parametrize(
    "rows, sentence",
    [
        ({"box_class": np.array([0])}, "3 boxes, but box_class has 1 entries"),
        ({}, "3 boxes, but box_class has 0 entries"),
        (
            {"box_class": np.zeros(3, int), "difficult": np.ones(2, bool)},
            "3 boxes, but difficult has 2 entries",
        ),
    ],
)
def test_each_box_has_a_class_or_nothing_is_dropped_silently(rows, sentence):
    boxes = np.float32([[0, 0, 2, 2]] * 3)
    with pytest.raises(InputError, match=sentence):
        make_example(np.zeros((4, 4, 3), np.uint8), boxes=boxes, **rows)


def test_missing_targets_are_ignored_unknown_and_padding():
    batch = stacked([make_example(np.zeros((4, 6, 3), np.uint8), max_boxes=2)] * 2)
    assert batch["mask"].shape == (2, 4, 6) and (batch["mask"] == IGNORE).all()
    assert (batch["depth"] == 0).all() and batch["depth"].dtype == np.float32
    assert (batch["box_class"] == PADDING).all() and batch["boxes"].shape == (2, 2, 4)
