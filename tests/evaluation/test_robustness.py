"""Accuracy on corrupted images is that of a classifier of clean ones."""

import numpy as np
import pytest
from flax import linen as nn

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.sources import MemorySource
from byol_bnfree.encoder import Encoder
from byol_bnfree.evaluation.features import encoder_features
from byol_bnfree.evaluation.methods.logistic import fit_logistic
from byol_bnfree.evaluation.methods.robustness import corrupted_accuracy


class Brightness(nn.Module):
    """An encoder that sees nothing but the mean of the upper left corner."""

    def __call__(self, images, train):
        return images[:, :2, :2].mean(axis=(1, 2, 3))[:, None]


@pytest.fixture(scope="module")
def greys():
    """The encoder, its classifier of ten shades of grey, and 50 plain images."""
    labels = np.arange(50, dtype=np.int32) % 10
    shades = (60 + 15 * labels).astype(np.uint8)[:, None, None, None]
    pixels = np.broadcast_to(shades, (50, 8, 8, 3)).copy()
    source = MemorySource("greys", "test", tuple("abcdefghij"), pixels, labels, {})
    encoder = Encoder(Brightness(), {}, TrainConfig(), 0)
    features = encoder_features(encoder, source, batch_size=50)
    fit = fit_logistic(features, labels, 10, strengths=(1e-3,))
    return encoder, fit.classifier, source


@pytest.mark.parametrize("kind", ["blur", "contrast", "jpeg"])
def test_what_leaves_plain_images_plain_costs_no_accuracy(kind, greys):
    assert corrupted_accuracy(*greys, (kind, 5)) == 1.0


def test_noise_costs_more_at_a_higher_level(greys):
    weak, strong = (corrupted_accuracy(*greys, ("noise", level)) for level in (1, 5))
    assert 1.0 > weak > strong
