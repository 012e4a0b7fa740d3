"""An untrained encoder is made without views, which its pictures may not have."""

import dataclasses

import numpy as np
import pytest

import tiny
from byol_bnfree.config import AugmentConfig, ViewConfig
from byol_bnfree.errors import InputError
from byol_bnfree.training.parts import DataShape, build_parts
from byol_bnfree.untrained import untrained_like


def turned(**fields):
    view = ViewConfig(quarter_turn=0.5)
    small = dataclasses.replace(tiny.config().model, name="resnet8", width=0.25)
    return tiny.config(model=small, augment=AugmentConfig(view, view), **fields)


def test_windows_that_cannot_be_turned_have_an_untrained_encoder():
    windows = np.zeros((4, 32, 48, 3), np.uint8)
    square = DataShape(48, 3, (32, 32, 3))
    encoder = untrained_like(turned(norm="gn_ws"), square, windows)
    assert np.isfinite(encoder(windows)).all()


def test_training_on_such_pictures_is_refused_before_any_is_read():
    with pytest.raises(InputError, match="square"):
        build_parts(turned(), DataShape(48, 3, (32, 48, 3)))
