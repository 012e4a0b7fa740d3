"""The decoding experiment cuts the crops that a run with these views would cut."""

import numpy as np
import pytest
from PIL import Image

from byol_bnfree.config import ViewsConfig
from byol_bnfree.errors import InputError
from experiments.decoding.__main__ import Arguments, main
from experiments.decoding.pictures import cut_of


def test_crops_are_as_many_and_as_large_as_asked_for():
    picture = Image.fromarray(np.zeros((30, 40, 3), np.uint8))
    crops = cut_of(ViewsConfig(count=4))(picture, (8, 8), key=(0, 0))
    assert crops.shape == (4, 8, 8, 3)
    views = ViewsConfig(small=4, small_size=5)
    large, small = cut_of(views)(picture, (8, 8), key=(0, 0))
    assert (large.shape, small.shape) == ((2, 8, 8, 3), (4, 5, 5, 3))


def test_a_peer_that_cuts_other_crops_is_refused():
    with pytest.raises(InputError, match="--peer cuts two large crops"):
        main(Arguments(peer="python", small=4))
