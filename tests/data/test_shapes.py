"""The generated data set: deterministic, balanced, and its shapes are what they say."""

import numpy as np
import pytest

from byol_bnfree.data.shapes import SHAPES, generate


def test_images_are_a_pure_function_of_split_and_index():
    few, labels = generate("train", 30)
    many, _ = generate("train", 700)
    np.testing.assert_array_equal(few, many[:30])
    np.testing.assert_array_equal(few, generate("train", 30)[0])
    np.testing.assert_array_equal(labels, np.arange(30) % 10)


def test_train_and_test_share_no_image():
    train, test = generate("train", 200)[0], generate("test", 200)[0]
    assert not {x.tobytes() for x in train} & {x.tobytes() for x in test}


@pytest.mark.parametrize(("size", "channels"), [(8, 3), (32, 1), (33, 3)])
def test_size_and_channels_are_respected(size, channels):
    images, _ = generate("train", 11, size, channels)
    assert images.shape == (11, size, size, channels) and images.dtype == np.uint8


def test_one_channel_is_the_luma_of_three():
    color, gray = generate("train", 10)[0], generate("train", 10, 32, 1)[0]
    inside = (color > 0).all(-1) & (color < 255).all(-1)  # clipped colours differ
    luma = color.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(luma - gray[..., 0])[inside].max() < 1.5


def test_mean_colour_alone_is_a_hint_and_no_more():
    train, labels = generate("train", 2000)
    test, truth = generate("test", 500)
    a, b = (x.mean((1, 2)) for x in (train, test))
    nearest = ((a[None] - b[:, None]) ** 2).sum(-1).argmin(1)
    assert 0.15 < np.mean(labels[nearest] == truth) < 0.4  # chance is 0.1


def test_outlines_enclose_the_areas_of_their_shapes():
    """Share of a 4 x 4 square with negative distance, against geometry."""
    axis = np.linspace(-2, 2, 801, dtype=np.float32)
    u, v = (x[None] for x in np.meshgrid(axis, axis))
    area = {name: 16 * np.mean(f(u, v) < 0) for name, f in SHAPES.items()}
    assert area["circle"] == pytest.approx(np.pi * 0.9**2, rel=0.02)
    assert area["square"] == pytest.approx(1.6**2, rel=0.02)
    assert area["triangle"] == pytest.approx(3 * np.sqrt(3) * 0.55**2, rel=0.02)
    assert area["star"] == pytest.approx(5 * 1.1 * 0.45 * np.sin(np.pi / 5), rel=0.02)
    assert area["cross"] == pytest.approx(4 * 0.95 * 0.6 - 0.6**2, rel=0.02)
    assert area["ring"] == pytest.approx(4 * np.pi * 0.72 * 0.22, rel=0.02)
    assert area["heart"] == pytest.approx(1.1**2 + np.pi * 0.55**2, rel=0.02)
    assert area["bar"] == pytest.approx(4 * 1.05 * 0.28, rel=0.02)
    assert area["bow tie"] == pytest.approx(2 * 0.9**2, rel=0.02)


def test_an_image_shows_its_outline_over_its_background():
    """A pixel is background, or a brighter shape: two clouds of luma, both present."""
    images, _ = generate("train", 200)
    luma = images @ np.float32([0.299, 0.587, 0.114]) / 255
    background = np.quantile(luma, 0.05, axis=(1, 2), keepdims=True)
    shape = (luma > background + 0.15).mean((1, 2))
    assert shape.min() > 0.1 and shape.max() < 0.75
