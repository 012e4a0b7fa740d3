"""Normalization, shortcut and ReLU of images or features in one call, on a CPU.

XLA:CPU reads an image once for each of its moments and of their gradients. The call
reads it once for all of them, and again, out of a core's cache where the statistics are
of one image, for what is made of them.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from byol_bnfree.models import native

Moments = Float[Array, "n g"]


class Options(NamedTuple):
    """Attributes of the call, in its types."""

    images: np.int64
    views: np.int64
    groups: np.int64
    relu: bool
    epsilon: np.float32


def normalize(
    x: Float[Array, "b ... c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    shortcut: Float[Array, "b ... c"] | None,
    *,
    images: int,
    views: int = 1,
    groups: int,
    relu: bool,
    epsilon: float,
) -> tuple[Float[Array, "b ... c"], Moments, Moments]:
    """relu((x - mean) / sqrt(variance + epsilon) * scale + bias + shortcut).

    float32, CPU, after `native.register`. Statistics are taken over blocks of `images`
    images and over `groups` equal groups of channels: 1 and g are GroupNorm, b and c
    BatchNorm. Of n `views` side by side (image i is of view i mod n) each has blocks of
    its own. Mean and (biased) variance are returned too, and have no gradient; a row
    of each block, those of a view every n rows.
    """
    counts = map(np.int64, (images, views, groups))
    options = Options(*counts, relu, np.float32(epsilon))
    scale, bias = scale.astype(jnp.float32), bias.astype(jnp.float32)
    pixels = (len(x), math.prod(x.shape[1:-1]), x.shape[-1])
    shortcut = None if shortcut is None else shortcut.reshape(pixels)
    y, *moments = _normalize(x.reshape(pixels), scale, bias, shortcut, options)
    return y.reshape(x.shape), *moments


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _normalize(x, scale, bias, shortcut, options: Options):
    return _forward(x, scale, bias, shortcut, options)[0]


def _forward(x, scale, bias, shortcut, options: Options):
    moments = (len(x) // int(options.images), int(options.groups))
    call = _call("normalize", x.shape, moments, moments)
    y, mean, variance = call(x, scale, bias, _or_empty(shortcut), **options._asdict())
    kept = y if shortcut is not None else None
    return (y, mean, variance), (x, scale, bias, kept, mean, variance)


def _backward(options: Options, saved, cotangents):
    x, scale, bias, y, mean, variance = saved
    to_shortcut = (0,) if y is None else x.shape
    call = _call("normalize_gradient", x.shape, scale.shape, bias.shape, to_shortcut)
    *gradients, to_shortcut = call(
        *(x, _or_empty(y), cotangents[0], scale, bias, mean, variance),
        **options._asdict(),
    )
    return *gradients, None if y is None else to_shortcut


_normalize.defvjp(_forward, _backward)


def _call(name: str, *shapes: tuple[int, ...]) -> Any:
    return jax.ffi.ffi_call(
        native.TARGETS[name],
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        vmap_method="sequential",
    )


def _or_empty(array: Array | None) -> Array:
    return jnp.zeros((0,), jnp.float32) if array is None else array
