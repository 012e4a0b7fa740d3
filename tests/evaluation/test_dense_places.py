"""Places of a map lie where the network looks, and maps are resized accordingly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byol_bnfree import create_encoder
from byol_bnfree.evaluation.dense.heads import resized
from byol_bnfree.evaluation.dense.places import at_start, places, stride_of


@pytest.mark.parametrize(
    "size, stride", [(64, 4), (50, 4), (65, 32), (33, 32), (32, 1), (480, 16)]
)
def test_the_stride_is_known_from_the_sizes(size, stride):
    count = -(-size // stride)
    assert stride_of((size, size), (count, count)) == stride


def test_places_lie_in_the_middle_of_their_pixels():
    found = places((8, 12), (2, 3), start=False)
    assert found[..., 0].tolist() == [[2, 2, 2], [6, 6, 6]]
    assert found[..., 1].tolist() == [[2, 6, 10], [2, 6, 10]]


@pytest.mark.parametrize("padding, side", [("torch", 32), ("torch", 33), ("same", 33)])
def test_a_place_lies_at_the_centroid_of_the_paths_to_it(padding, side):
    module = create_encoder("resnet8", stem="small", padding=padding, norm="none")
    image = jnp.ones((1, side, side, 3))
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), image))
    # All paths count alike if all kernels are equal and positive.
    variables = jax.tree.map(lambda x: jnp.full(x.shape, 0.01), variables)

    def place(image):
        return module.apply(variables, image, False, method="stages")[-1][0, 4, 4, 0]

    paths = np.asarray(jax.jit(jax.grad(place))(image))[0].sum((1, 2))
    centroid = (paths * (np.arange(side) + 0.5)).sum() / paths.sum()
    counts = (-(-side // 4),) * 2
    found = places((side, side), counts, at_start(module))[4, 4, 0]
    assert float(found) == pytest.approx(centroid, abs=1e-2)


@pytest.mark.parametrize("side", [16, 14, 17])
def test_maps_of_torch_padding_are_right_at_the_first_of_their_pixels(side):
    pixels = jnp.arange(float(side))
    last = 4 * ((side - 1) // 4)  # the map is constant beyond its last place
    rows = pixels[::4][None, :, None, None]
    found = resized(rows, (side, 1), start=True)
    np.testing.assert_allclose(found[0, :, 0, 0], np.minimum(pixels, last), atol=1e-4)


@pytest.mark.parametrize("stride", [2, 16])
def test_the_corners_of_odd_pictures_and_their_maps_meet(stride):
    places = 5
    pixels = jnp.arange(stride * (places - 1) + 1.0)
    rows = pixels[::stride][None, :, None, None]  # each place knows its pixel
    found = resized(rows, (len(pixels), 1))[0, :, 0, 0]
    np.testing.assert_allclose(found, pixels, atol=1e-4)


def test_places_of_even_pictures_are_at_the_middle_of_their_pixels():
    middle = jnp.arange(8.0) * 8 + 3.5
    found = resized(middle[None, None, :, None], (1, 64))[0, 0, 4:-4, 0]
    np.testing.assert_allclose(found, jnp.arange(4.0, 60.0), atol=1e-4)
