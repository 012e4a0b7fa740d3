"""A trained encoder as a value in other people's code."""

import jax
import numpy as np

import tiny


def test_an_encoder_can_be_compiled_as_it_is():
    encoder, images = tiny.encoder("bn"), tiny.batch()["image"]
    np.testing.assert_allclose(jax.jit(encoder)(images), encoder(images), rtol=1e-4)
