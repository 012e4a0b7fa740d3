"""The generated data set: deterministic, balanced, and its shapes are what they say."""

import numpy as np
import pytest

from byol_bnfree.data.shapes import CLASSES, HUES, SHAPES, generate


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


def nearest_label(train, labels, test):
    return labels[((train[None] - test[:, None]) ** 2).sum(-1).argmin(1)]


def test_brightness_does_not_tell_the_class():
    train, labels = generate("train", 2000, channels=1)
    test, truth = generate("test", 500, channels=1)
    a, b = (x.mean((1, 2)) / 255 for x in (train, test))
    assert np.mean(nearest_label(a, labels, b) == truth) < 0.2  # chance is 0.1
    assert a.std() > 0.1


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_a_class_has_two_colours_and_no_other(label):
    """Of all its pixels that are not nearly black or white, by the nearest hue."""
    images = generate("train", 400)[0][label :: len(CLASSES)]
    pixels = images[(images.min(-1) > 5) & (images.max(-1) < 250)] / 255
    hues = np.exp(2j * np.pi * np.array(list(HUES.values())))
    chroma = pixels @ hues
    nearest = (chroma[:, None] * hues.conj()).real.argmax(1)
    nearest[np.abs(chroma) < 0.2] = len(HUES)
    share = np.bincount(nearest, minlength=4) / len(pixels)
    names, look = [*HUES, "gray"], CLASSES[label]
    colour, ground = share[names.index(look.colour)], share[names.index(look.ground)]
    assert colour > 0.2 and ground > 0.4 and colour + ground > 0.9


def test_outlines_enclose_the_areas_of_their_shapes():
    """Share of a 4 x 4 square with negative distance, against geometry."""
    axis = np.linspace(-2, 2, 801, dtype=np.float32)
    u, v = (x[None] for x in np.meshgrid(axis, axis))
    area = {name: 16 * np.mean(f(u, v) < 0) for name, f in SHAPES.items()}
    assert area["disc"] == pytest.approx(np.pi * 0.9**2, rel=0.02)
    assert area["cross"] == pytest.approx(4 * 0.95 * 0.6 - 0.6**2, rel=0.02)
