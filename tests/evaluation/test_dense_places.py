"""Places of a map lie where the network looks, and maps are resized accordingly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byol_bnfree import create_encoder
from byol_bnfree.evaluation.dense.heads import resized
from byol_bnfree.evaluation.dense.places import (
    Grid,
    first_place,
    grid_of,
    places,
    stride_of,
)


@pytest.mark.parametrize(
    "size, stride", [(64, 4), (50, 4), (65, 32), (33, 32), (32, 1), (480, 16)]
)
def test_the_stride_is_known_from_the_sizes(size, stride):
    count = -(-size // stride)
    assert stride_of((size, size), (count, count)) == stride


def test_places_lie_in_the_middle_of_their_pixels():
    found = places((8, 12), (2, 3), Grid(4, start=False))
    assert found[..., 0].tolist() == [[2, 2, 2], [6, 6, 6]]
    assert found[..., 1].tolist() == [[2, 6, 10], [2, 6, 10]]


@pytest.mark.parametrize("stem", [("small", 1), ("small", 2), ("imagenet", 1)])
@pytest.mark.parametrize("padding", ["torch", "same"])
@pytest.mark.parametrize("side", [128, 129])
def test_a_place_lies_at_the_centroid_of_the_paths_to_it(padding, side, stem):
    module = create_encoder(
        "resnet8", stem=stem[0], stem_stride=stem[1], padding=padding, norm="none"
    )
    image = jnp.ones((1, side, side, 3))
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), image))
    # Each kernel averages, so a convolution and its shortcut count alike.
    variables = jax.tree.map(
        lambda x: jnp.full(x.shape, 1 / np.prod(x.shape[:-1], initial=1)), variables
    )

    def place(image):
        return module.apply(variables, image, False, method="stages")[-1][0, 4, 4, 0]

    paths = np.asarray(jax.jit(jax.grad(place))(image))[0].sum((1, 2))
    centroid = (paths * (np.arange(side) + 0.5)).sum() / paths.sum()
    grid = grid_of(module)
    counts = (-(-side // grid.stride),) * 2
    found = float(places((side, side), counts, grid)[4, 4, 0])
    # Of equal pixels in a window, the gradient of the pooling takes the first one. It
    # lies one place before the centre, which is two pixels.
    found -= 2 if stem[0] == "imagenet" else 0
    assert found == pytest.approx(centroid, abs=1e-2)


@pytest.mark.parametrize("padding", ["torch", "same"])
@pytest.mark.parametrize("side", [32, 33, 38])
def test_a_dilated_map_holds_the_places_of_the_smaller_one(padding, side):
    small = create_encoder("resnet14", stem="small", padding=padding, stem_stride=2)

    def of(stride):
        module = small.with_output_stride(stride)
        counts = (-(-side // stride),) * 2
        return places((side, side), counts, grid_of(module))

    for stride in (4, 2):
        every = 8 // stride
        np.testing.assert_array_equal(of(stride)[::every, ::every], of(8))


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize(
    "side, own, stride, ups",
    [
        (228, 32, 32, 4),  # the paper's window of depth
        (304, 32, 32, 4),
        (513, 32, 32, 4),
        (500, 32, 16, 0),
        (513, 32, 16, 0),
        (64, 16, 8, 2),
        (64, 4, 4, 1),
        (17, 4, 4, 0),
    ],
)
def test_a_map_of_positions_gives_each_pixel_its_own(side, own, stride, ups, start):
    grid, count = Grid(own, start), -(-side // stride) * 2**ups
    known = first_place(side, grid) + stride / 2**ups * jnp.arange(count)
    found = resized(known[None, :, None, None], (side, 1), grid)[0, :, 0, 0]
    pixels = np.clip(np.arange(side) + 0.5, known[0], known[-1])
    np.testing.assert_allclose(found, pixels, atol=1e-3)
