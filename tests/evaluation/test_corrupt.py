"""Corruptions grow with their level and are the same at every access."""

import numpy as np
import pytest

from byol_bnfree.data.sources import MemorySource
from byol_bnfree.evaluation.images.corrupt import CORRUPTIONS, LEVELS, Corrupted


def source(size=32, channels=3) -> MemorySource:
    """Noisy ramps with an edge: fine detail, contrast, and room for noise."""
    ramp = np.linspace(40, 160, size)[None, :, None, None]
    shape = (4, size, size, channels)
    pixels = ramp + np.random.default_rng(0).normal(0, 10, shape)
    pixels[:, :, size // 2 :] += 40
    labels = np.arange(4, dtype=np.int32)
    images = np.clip(pixels, 0, 255).astype(np.uint8)
    return MemorySource("ramps", "test", tuple("abcd"), images, labels, {})


def damage(kind, level, size) -> float:
    clean = source(size)
    spoiled = Corrupted(clean, kind, level, seed=0).images(np.arange(4))
    return np.abs(spoiled.astype(float) - clean.pixels).mean()


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("size", [32, 96])
def test_a_higher_level_spoils_more(kind, size):
    amounts = [damage(kind, level, size) for level in range(1, LEVELS + 1)]
    assert (np.diff([0, *amounts]) > 0).all()


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_spoiled_alike_in_any_batch(kind, channels):
    spoiled = Corrupted(source(channels=channels), kind, 5, seed=0)
    whole = spoiled.images(np.arange(4))
    assert whole.shape == (4, 32, 32, channels)
    np.testing.assert_array_equal(spoiled.images(np.array([2, 0])), whole[[2, 0]])


def test_noise_has_the_stated_deviation_and_differs_from_image_to_image():
    clean = source()
    clean.pixels[:] = 128
    spoiled = Corrupted(clean, "noise", 5, seed=0).images(np.arange(4)) / 255
    assert spoiled.std() == pytest.approx(0.10, rel=0.05)
    assert (spoiled[0] != spoiled[1]).mean() > 0.5


def test_noise_is_drawn_by_the_seed():
    one, other = (
        Corrupted(source(), "noise", 5, seed).images(np.arange(1)) for seed in (0, 1)
    )
    assert (one != other).mean() > 0.5


@pytest.mark.parametrize("size, share", [(32, 0.5), (64, 0.5), (65, 0.3)])
def test_contrast_keeps_the_mean_and_scales_the_rest(size, share):
    """By CIFAR-10-C's share up to 64 pixels, and by ImageNet-C's above."""
    clean, spoiled = source(size), Corrupted(source(size), "contrast", 2, seed=0)
    pictures = spoiled.images(np.arange(1)), clean.pixels[:1]
    assert abs(pictures[0].mean() - pictures[1].mean()) < 0.5
    assert pictures[0].std() / pictures[1].std() == pytest.approx(share, abs=0.01)


def test_blur_leaves_flat_pictures_alone_up_to_the_border():
    clean = source()
    clean.pixels[:] = 200
    spoiled = Corrupted(clean, "blur", 5, seed=0).images(np.arange(1))
    np.testing.assert_array_equal(spoiled, clean.pixels[:1])


def test_labels_and_split_say_what_it_is():
    spoiled = Corrupted(source(), "jpeg", 3, seed=0)
    assert spoiled.split == "test-jpeg3" and spoiled.labels().tolist() == [0, 1, 2, 3]
