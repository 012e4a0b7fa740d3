"""Convolutions by oneDNN on a CPU, where XLA's own are slow.

XLA:CPU takes the gradient to the kernel of a 3x3 convolution on large maps at an
eighth of the rate of its forward pass, and 2x2 maps at a thirtieth of the rate of a
matrix product. `models.kernels` says when these are used instead.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from byol_bnfree.models import native
from byol_bnfree.models.standardize import EPSILON, weight_standardize

Convolution = Callable[..., Array]
"""What `flax.linen.Conv` takes as `conv_general_dilated`; called as jax.lax's."""

Strides = tuple[int, int]
Padding = tuple[tuple[int, int], tuple[int, int]]

LAYOUT = ("NHWC", "HWIO", "NHWC")


def onednn_conv_general_dilated(
    lhs: Float[Array, "b h w c"],
    rhs: Float[Array, "kh kw c d"],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    dimension_numbers: lax.ConvDimensionNumbers | None = None,
    standardized: bool = False,
    **options,
) -> Float[Array, "b h2 w2 d"]:
    """`jax.lax.conv_general_dilated` of images; oneDNN's where the case is plain.

    Plain is what `plain_case` says. The rest is XLA's.
    `standardized`: by `weight_standardize(rhs)`.
    """
    case = plain_case(lhs, rhs, window_strides, padding, dimension_numbers, options)
    if case is not None:
        return convolve(lhs, rhs, *case, standardized)
    return lax.conv_general_dilated(
        lhs,
        weight_standardize(rhs).astype(rhs.dtype) if standardized else rhs,
        window_strides,
        padding,
        dimension_numbers=dimension_numbers,
        **options,
    )


def plain_case(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    dimension_numbers: lax.ConvDimensionNumbers | None,
    options: dict[str, Any],
) -> tuple[Strides, Padding] | None:
    """Strides and padding in pixels if float32, images, no dilation and one group."""
    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    images = lax.conv_dimension_numbers(lhs.shape, rhs.shape, LAYOUT)
    ordinary = {None, 1, (1, 1)}
    dtypes = {lhs.dtype, rhs.dtype}
    if (
        layout != images
        or dtypes != {jnp.dtype("float32")}
        or any(value not in ordinary for value in options.values())
    ):
        return None
    strides = tuple(window_strides)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
    return strides, tuple((low, high) for low, high in padding)


def by_xla(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    strides: Strides,
    padding: Padding,
) -> Float[Array, "b h2 w2 d"]:
    """XLA's convolution."""
    return lax.conv_general_dilated(
        images, kernel, strides, padding, dimension_numbers=LAYOUT
    )


def onednn_dot_general(
    lhs: Float[Array, "b c"],
    rhs: Float[Array, "c d"],
    dimension_numbers: lax.DotDimensionNumbers,
    *,
    standardized: bool = False,
    **options,
) -> Float[Array, "b d"]:
    """`jax.lax.dot_general` of a dense layer; as a convolution where the case is plain.

    Plain is: float32, a product of two matrices. The rest is XLA's.
    """
    dtypes = {lhs.dtype, rhs.dtype}
    product = (((lhs.ndim - 1,), (0,)), ((), ()))
    if (
        lhs.ndim != 2
        or dimension_numbers != product
        or dtypes != {jnp.dtype("float32")}
    ):
        rhs = weight_standardize(rhs).astype(rhs.dtype) if standardized else rhs
        return lax.dot_general(lhs, rhs, dimension_numbers, **options)
    pixels, kernel = lhs[:, None, None, :], rhs[None, None]
    return convolve(pixels, kernel, (1, 1), ((0, 0), (0, 0)), standardized)[:, 0, 0]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolve(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    strides: Strides,
    padding: Padding,
    standardized: bool = False,
) -> Float[Array, "b h2 w2 d"]:
    """oneDNN's convolution, with both gradients; float32, CPU, after `register`.

    `standardized`: by the standardized kernel, of which no array is kept: every pass
    standardizes again, which costs as little as reading the kernel.
    """
    shape = jax.eval_shape(
        partial(by_xla, strides=strides, padding=padding), images, kernel
    )
    call = _call("output", shape, strides, padding, standardized)
    return call(images, kernel)


def _forward(images, kernel, strides, padding, standardized):
    output = convolve(images, kernel, strides, padding, standardized)
    return output, (images, kernel)


def _backward(strides, padding, standardized, saved, cotangent):
    images, kernel = saved
    to_images = _call("input_gradient", images, strides, padding, standardized)
    to_kernel = _call("kernel_gradient", kernel, strides, padding, standardized)
    return to_images(cotangent, kernel), to_kernel(images, kernel, cotangent)


convolve.defvjp(_forward, _backward)


def _call(name: str, like, strides, padding, standardized: bool) -> Convolution:
    call = jax.ffi.ffi_call(
        native.TARGETS[f"conv_{name}"],
        jax.ShapeDtypeStruct(like.shape, jnp.float32),
        vmap_method="sequential",
    )
    return partial(
        call,
        strides=np.int64(strides),
        padding=np.int64(padding).reshape(-1),
        epsilon=np.float32(EPSILON if standardized else 0),
    )
