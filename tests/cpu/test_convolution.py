"""Convolutions by oneDNN and by products equal XLA's in all three passes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byol_bnfree.cpu import native
from byol_bnfree.cpu.convolution import (
    LAYOUT,
    conv,
    convolve,
    dense,
    std_conv,
    std_dense,
)
from byol_bnfree.cpu.products import product_conv_general_dilated
from byol_bnfree.models.kernels import XLA
from byol_bnfree.models.standardize import weight_standardize

problem = native.register()
needs_onednn = pytest.mark.skipif(problem is not None, reason=str(problem))

CASES = {  # batch, side, channels in and out, kernel, stride
    "stem": (4, 16, 3, 16, 3, 1),
    "imagenet stem": (2, 33, 3, 8, 7, 2),
    "one channel": (2, 8, 1, 4, 3, 1),
    "few channels": (3, 12, 4, 3, 3, 1),
    "3x3": (5, 8, 16, 16, 3, 1),
    "strided": (4, 8, 16, 32, 3, 2),
    "strided, odd side": (3, 7, 8, 8, 3, 2),
    "tiny maps": (4, 2, 32, 32, 3, 1),
    "one pixel": (2, 1, 8, 8, 3, 2),
    "shortcut": (4, 8, 16, 32, 1, 2),
    "one image": (1, 8, 16, 16, 3, 1),
    "channels that no vector divides": (3, 5, 7, 13, 3, 1),
    "a product of all pixels": (3, 4, 512, 260, 1, 1),
    "few pixels": (2, 3, 512, 260, 1, 1),
    "tiles": (4, 8, 64, 96, 3, 1),
    "tiles, odd side": (3, 7, 64, 48, 3, 1),
    "tiles of 2x2 maps": (5, 2, 64, 64, 3, 1),
    "many tiles": (9, 32, 48, 48, 3, 1),
    "tiles, channels that no vector divides": (2, 9, 50, 55, 3, 1),
}


def arrays(batch, side, c, d, k, _):
    draws = np.random.default_rng(0)
    images = draws.normal(size=(batch, side, side, c)).astype(np.float32)
    return images, draws.normal(size=(k, k, c, d)).astype(np.float32)


def passes(convolution, images, kernel, stride):
    """Output, gradient to the images and gradient to the kernel."""

    def f(images, kernel):
        return convolution(
            images, kernel, (stride, stride), "SAME", dimension_numbers=LAYOUT
        )

    output, pull = jax.vjp(f, images, kernel)
    return output, *pull(jnp.sin(output))


@needs_onednn
@pytest.mark.parametrize("standardized", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_all_three_passes_equal_xla(case, standardized):
    images, kernel = arrays(*CASES[case])
    ours, theirs = (std_conv, XLA.std_conv) if standardized else (conv, XLA.conv)
    ours, theirs = (
        jax.jit(lambda x, w, f=f: passes(f, x, w, CASES[case][-1]))(images, kernel)
        for f in (ours, theirs)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


@pytest.mark.parametrize("case", CASES)
def test_all_three_passes_by_products_equal_xla(case):
    images, kernel = arrays(*CASES[case])
    ours, theirs = (
        jax.jit(lambda x, w, f=f: passes(f, x, w, CASES[case][-1]))(images, kernel)
        for f in (product_conv_general_dilated, jax.lax.conv_general_dilated)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


@pytest.mark.parametrize("case", ["tiny maps", "one pixel", "a product of all pixels"])
def test_what_xla_is_slow_at_is_a_product_in_all_passes(case):
    f = partial(passes, product_conv_general_dilated, stride=CASES[case][-1])
    program = str(jax.make_jaxpr(f)(*arrays(*CASES[case])))
    assert "dot_general" in program and "conv_general_dilated" not in program


def test_pixels_of_few_channels_are_taken_together():
    f = partial(passes, product_conv_general_dilated, stride=1)
    program = jax.make_jaxpr(f)(*arrays(*CASES["few channels"]))
    assert "f32[3,12,3,16]" in str(program)  # four of 12 pixels in a row are one


DENSE = {"few rows": (4, 70, 33), "many rows": (300, 24, 40), "one row": (1, 64, 16)}


@needs_onednn
@pytest.mark.parametrize("standardized", [False, True])
@pytest.mark.parametrize("sizes", DENSE.values(), ids=DENSE)
def test_dense_layers_equal_xlas(sizes, standardized):
    rows, c, d = sizes
    draws = np.random.default_rng(0)
    x, kernel = (jnp.float32(draws.normal(size=s)) for s in ((rows, c), (c, d)))
    numbers = (((1,), (0,)), ((), ()))

    def ours(x, w):
        return (std_dense if standardized else dense)(x, w, numbers)

    def theirs(x, w):
        return x @ (weight_standardize(w) if standardized else w)

    results = []
    for f in (ours, theirs):
        y, pull = jax.vjp(f, x, kernel)
        results.append((y, *pull(jnp.sin(y))))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


@needs_onednn
@pytest.mark.parametrize("pads", [((0, 0), (0, 0)), ((2, 1), (0, 2)), ((1, 0), (1, 1))])
def test_tiles_with_other_padding_equal_xla(pads):
    images, kernel = arrays(2, 6, 48, 64, 3, 1)
    images = images[:, :5]

    def f(convolution, x, w):
        return convolution(x, w, (1, 1), pads, dimension_numbers=LAYOUT)

    outputs = []
    for convolution in (conv, jax.lax.conv_general_dilated):
        y, pull = jax.vjp(partial(f, convolution), images, kernel)
        outputs.append((y, *pull(jnp.sin(y))))
    for a, b in zip(*outputs, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


@needs_onednn
def test_the_same_call_gives_the_same_bits():
    images, kernel = arrays(*CASES["3x3"])
    f = jax.jit(lambda x, w: passes(conv, x, w, 1))
    first, second = f(images, kernel), f(images, kernel)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("convolution", [conv, product_conv_general_dilated])
@pytest.mark.parametrize(
    "options",
    [{"feature_group_count": 2}, {"rhs_dilation": (2, 2)}, {"precision": "highest"}],
)
def test_other_cases_are_xlas(convolution, options):
    images, kernel = arrays(2, 2, 4, 4, 3, 1)
    kernel = kernel[:, :, :2] if "feature_group_count" in options else kernel
    arguments = (images, kernel, (1, 1), "SAME")
    options = {"dimension_numbers": LAYOUT, **options}
    ours = convolution(*arguments, **options)
    assert (ours == jax.lax.conv_general_dilated(*arguments, **options)).all()


@pytest.mark.parametrize("convolution", [conv, product_conv_general_dilated])
def test_arguments_by_position_are_those_of_xla(convolution):
    images, kernel = arrays(2, 2, 4, 4, 3, 1)
    arguments = (images, kernel[:, :, :2], (1, 1), "SAME", None, None, LAYOUT, 2)
    ours = convolution(*arguments)
    assert (ours == jax.lax.conv_general_dilated(*arguments)).all()


@needs_onednn
@pytest.mark.parametrize(
    "options", [{"preferred_element_type": jnp.bfloat16}, {"precision": "highest"}]
)
@pytest.mark.parametrize(
    "ours, theirs", [(dense, XLA.dense), (std_dense, XLA.std_dense)]
)
def test_dense_layers_with_options_are_xlas(ours, theirs, options):
    draws = np.random.default_rng(0)
    x, w = (jnp.float32(draws.normal(size=s)) for s in ((5, 7), (7, 3)))
    numbers = (((1,), (0,)), ((), ()))
    y, expected = (f(x, w, numbers, **options) for f in (ours, theirs))
    assert y.dtype == expected.dtype and (y == expected).all()
    by_position = ours(x, w, numbers, None, jnp.bfloat16)
    assert by_position.dtype == jnp.bfloat16


@needs_onednn
def test_bfloat16_is_xlas():
    x, w = (jnp.bfloat16(a) for a in arrays(*CASES["3x3"]))
    f = jax.make_jaxpr(lambda x, w: passes(conv, x, w, 1))
    assert "byol_conv" not in str(f(x, w))


@needs_onednn
def test_a_mapped_convolution_equals_its_pieces():
    images, kernel = arrays(*CASES["3x3"])
    pads = ((1, 1), (1, 1))
    mapped = jax.vmap(lambda x: convolve(x[None], kernel, (1, 1), pads)[0])(images)
    whole = convolve(images, kernel, (1, 1), pads)
    np.testing.assert_allclose(mapped, whole, rtol=1e-5, atol=1e-5)
