"""Convolutions and dense layers in C++ with oneDNN.

XLA is slow at some of them on CPUs. It computes the kernel gradient of a 3x3
convolution on large maps at an eighth of the rate of its forward pass, and convolutions
of 2x2 maps at a thirtieth of the rate of a matrix product. `cpu.choice` decides when
these are used.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from byol_bnfree.cpu import native
from byol_bnfree.cpu.reverse_mode import reverse_mode_only
from byol_bnfree.models.kernels import XLA
from byol_bnfree.models.standardize import EPSILON, check_fan_in

Strides = tuple[int, int]
Padding = tuple[tuple[int, int], tuple[int, int]]

LAYOUT = ("NHWC", "HWIO", "NHWC")
FLOAT32 = jnp.dtype("float32")


def conv(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *arguments,
    **options,
) -> Array:
    """Act as `lax.conv_general_dilated`; in C++ if `plain_case` allows it."""
    case = plain_case(lhs, rhs, window_strides, padding, *arguments, **options)
    if case is not None:
        return convolve(lhs, rhs, *case)
    return XLA.conv(lhs, rhs, window_strides, padding, *arguments, **options)


def std_conv(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *arguments,
    **options,
) -> Array:
    """Act as `conv` with `weight_standardize(rhs)`."""
    case = plain_case(lhs, rhs, window_strides, padding, *arguments, **options)
    if case is not None:
        check_fan_in(rhs.shape)
        return convolve(lhs, rhs, *case, True)
    return XLA.std_conv(lhs, rhs, window_strides, padding, *arguments, **options)


def dense(lhs: Array, rhs: Array, dimension_numbers, *arguments, **options) -> Array:
    """Act as `lax.dot_general`; in C++ for a dense layer (`_is_dense_layer`)."""
    if _is_dense_layer(lhs, rhs, dimension_numbers, *arguments, **options):
        return _multiply(lhs, rhs, standardized=False)
    return XLA.dense(lhs, rhs, dimension_numbers, *arguments, **options)


def std_dense(
    lhs: Array, rhs: Array, dimension_numbers, *arguments, **options
) -> Array:
    """Act as `dense` with `weight_standardize(rhs)`."""
    if _is_dense_layer(lhs, rhs, dimension_numbers, *arguments, **options):
        check_fan_in(rhs.shape)
        return _multiply(lhs, rhs, standardized=True)
    return XLA.std_dense(lhs, rhs, dimension_numbers, *arguments, **options)


def plain_case(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Any = None,
    rhs_dilation: Any = None,
    dimension_numbers: Any = None,
    *arguments: Any,
    **options: Any,
) -> tuple[Strides, Padding] | None:
    """Return strides and padding in pixels of a plain convolution; None for others.

    In a plain convolution images and kernel are float32 and not empty, and their axes
    are those of `LAYOUT`. Padding is not negative. There is no dilation, one group, and
    XLA's default precision.
    """
    if lhs.ndim != 4 or rhs.ndim != 4 or {lhs.dtype, rhs.dtype} != {FLOAT32}:
        return None
    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    images = lax.conv_dimension_numbers(lhs.shape, rhs.shape, LAYOUT)
    # The others are groups of features or images, a precision and the like. None or 1
    # is the plain value of each.
    unusual = [lhs_dilation, rhs_dilation, *arguments, *options.values()]
    if layout != images or any(value not in (None, 1, (1, 1)) for value in unusual):
        return None
    strides = tuple(window_strides)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
    padding = tuple((low, high) for low, high in padding)
    padded = [
        size + low + high
        for size, (low, high) in zip(lhs.shape[1:3], padding, strict=True)
    ]
    # A kernel larger than the padded images has an empty output. XLA gives that.
    fits = all(whole >= size for whole, size in zip(padded, rhs.shape[:2], strict=True))
    if not fits or min(*lhs.shape, *rhs.shape) == 0 or min(sum(padding, ())) < 0:
        return None
    return strides, padding


def _is_dense_layer(
    lhs: Array, rhs: Array, dimension_numbers: Any, *arguments: Any, **options: Any
) -> bool:
    """Return True for a product of two float32 matrices that are not empty.

    A precision, a type of the result and the like are XLA's.
    """
    contracted, batched = dimension_numbers
    return (
        all(value is None for value in (*arguments, *options.values()))
        and lhs.ndim == rhs.ndim == 2
        and [list(axes) for axes in contracted] == [[1], [0]]
        and not any(map(len, batched))
        and {lhs.dtype, rhs.dtype} == {FLOAT32}
        and min(*lhs.shape, *rhs.shape) > 0
    )


def _multiply(
    x: Float[Array, "b c"], kernel: Float[Array, "c d"], standardized: bool
) -> Float[Array, "b d"]:
    """Compute a dense layer as a convolution of images with one pixel."""
    pixels, kernel = x[:, None, None, :], kernel[None, None]
    return convolve(pixels, kernel, (1, 1), ((0, 0), (0, 0)), standardized)[:, 0, 0]


def by_xla(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    strides: Strides,
    padding: Padding,
) -> Float[Array, "b h2 w2 d"]:
    """Convolve with XLA."""
    return lax.conv_general_dilated(
        images, kernel, strides, padding, dimension_numbers=LAYOUT
    )


def convolve(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    strides: Strides,
    padding: Padding,
    standardized: bool = False,
) -> Float[Array, "b h2 w2 d"]:
    """Convolve a plain case in C++, with both gradients. Call `native.register` first.

    With `standardized` the kernel is standardized first. No array of the result is
    kept. Every pass standardizes again, which costs no more than reading the kernel.
    """
    images, kernel = reverse_mode_only(images, kernel)
    return _convolve(images, kernel, strides, padding, standardized)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(images, kernel, strides, padding, standardized):
    shape = jax.eval_shape(
        partial(by_xla, strides=strides, padding=padding), images, kernel
    )
    call = _call("output", shape, strides, padding, standardized)
    return call(images, kernel)


def _forward(images, kernel, strides, padding, standardized):
    output = _convolve(images, kernel, strides, padding, standardized)
    return output, (images, kernel)


def _backward(strides, padding, standardized, saved, cotangent):
    images, kernel = saved
    to_images = _call("input_gradient", images, strides, padding, standardized)
    to_kernel = _call("kernel_gradient", kernel, strides, padding, standardized)
    return to_images(cotangent, kernel), to_kernel(images, kernel, cotangent)


_convolve.defvjp(_forward, _backward)


def _call(name: str, like, strides, padding, standardized: bool):
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
