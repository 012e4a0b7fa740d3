"""The generated data set: deterministic, balanced, and only shape tells the class."""

import numpy as np
import pytest

from byol_bnfree.data.shapes import CLASS_NAMES, generate


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


def test_mean_colour_does_not_tell_the_class():
    train, labels = generate("train", 2000)
    test, truth = generate("test", 500)
    a, b = (x.mean((1, 2)) for x in (train, test))
    nearest = ((a[None] - b[:, None]) ** 2).sum(-1).argmin(1)
    assert np.mean(labels[nearest] == truth) < 0.2  # chance is 0.1


def test_area_of_the_shapes_is_that_of_their_outlines():
    """Mean share of pixels far from the background's colour, in units of radius^2."""
    images = generate("train", 3000)[0].astype(float)
    background = np.median(images, axis=(1, 2), keepdims=True)
    share = (np.abs(images - background).max(-1) > 64).mean((1, 2))
    area = dict(zip(CLASS_NAMES, share.reshape(-1, 10).mean(0), strict=True))
    ratio = {name: area[name] / area["circle"] for name in CLASS_NAMES}
    assert ratio["square"] == pytest.approx(1.6**2 / (np.pi * 0.81), rel=0.1)
    assert ratio["cross"] == pytest.approx(1.92 / (np.pi * 0.81), rel=0.1)
    assert ratio["bar"] == pytest.approx(4 * 1.05 * 0.28 / (np.pi * 0.81), rel=0.1)
    assert ratio["ring"] == pytest.approx(4 * 0.72 * 0.22 / 0.81, rel=0.1)
