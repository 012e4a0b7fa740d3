"""Normalization, shortcut and ReLU in one call, on CPUs.

XLA on CPUs reads an image once for each moment and for each moment's gradient. This
call reads it once for all of them, and a second time for the result. If statistics are
those of one image, the second reading comes from a core's cache.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from byol_bnfree.cpu import moments, native
from byol_bnfree.cpu.deferred import Deferred
from byol_bnfree.cpu.reverse_mode import reverse_mode_only
from byol_bnfree.models.kernels import EPSILON, Moments, check_blocks


class Blocks(NamedTuple):
    """The blocks that share statistics, as attributes of the call."""

    images: np.int64
    views: np.int64
    groups: np.int64


def normalize(
    x: Float[Array, "b ... c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    *,
    images: int,
    groups: int,
    views: int = 1,
) -> tuple[Deferred | Float[Array, "b ... c"], Moments, Moments]:
    """Act as `models.kernels.normalize`. A shortcut and a ReLU may join the same pass.

    float32 is computed in C++; call `native.register` first. Mean and variance have no
    gradient.
    """
    check_blocks(x.shape, images, groups, views)
    if x.dtype != jnp.float32 or x.size == 0:
        counts = {"images": images, "groups": groups, "views": views}
        return moments.normalize(x, scale, bias, **counts)
    blocks = Blocks(*map(np.int64, (images, views, groups)))
    pixels = x.reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1])
    mean, variance = _moments(pixels, blocks)
    # If a block is one image, the call below computes its statistics itself, from the
    # cache. Nobody then uses the two above, and XLA drops their call from the program.
    known = (mean, variance) if images > 1 else (None, None)

    def compute(shortcut: Array | None, relu: bool) -> Array:
        shortcut = None if shortcut is None else shortcut.reshape(pixels.shape)
        parameters = scale.astype(jnp.float32), bias.astype(jnp.float32)
        arrays = reverse_mode_only(pixels, *parameters, *_given(shortcut))
        more = arrays[3] if shortcut is not None else None
        y = _normalize(*arrays[:3], more, *known, blocks, relu)
        return y.reshape(x.shape)

    return Deferred(compute, x), mean, variance


def _given(array: Array | None) -> tuple[Array, ...]:
    return () if array is None else (array,)


def _moments(x: Float[Array, "b p c"], blocks: Blocks) -> tuple[Moments, Moments]:
    """Return mean and biased variance, with one row per block."""
    shape = _moments_shape(x, blocks)
    return _call("moments", shape, shape)(lax.stop_gradient(x), **blocks._asdict())


def _moments_shape(x: Array, blocks: Blocks) -> tuple[int, int]:
    return len(x) // int(blocks.images), int(blocks.groups)


@partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def _normalize(x, scale, bias, shortcut, mean, variance, blocks: Blocks, relu: bool):
    return _forward(x, scale, bias, shortcut, mean, variance, blocks, relu)[0]


def _forward(x, scale, bias, shortcut, mean, variance, blocks: Blocks, relu: bool):
    found = (0,) if mean is not None else _moments_shape(x, blocks)
    call = _call("normalize", x.shape, found, found)
    optional = map(_or_empty, (shortcut, mean, variance))
    y, *new = call(x, scale, bias, *optional, **_attributes(blocks, relu))
    if mean is None:
        mean, variance = new
    # The backward pass needs the ReLU's sign. Keeping the output is cheaper than
    # keeping the shortcut to compute it again.
    kept = y if shortcut is not None else None
    return y, (x, scale, bias, kept, mean, variance)


def _backward(blocks: Blocks, relu: bool, saved, cotangent):
    x, scale, bias, y, mean, variance = saved
    to_shortcut = (0,) if y is None else x.shape
    call = _call("normalize_gradient", x.shape, scale.shape, bias.shape, to_shortcut)
    *gradients, to_shortcut = call(
        *(x, _or_empty(y), cotangent, scale, bias, mean, variance),
        **_attributes(blocks, relu),
    )
    return *gradients, None if y is None else to_shortcut, None, None


_normalize.defvjp(_forward, _backward)


def _attributes(blocks: Blocks, relu: bool) -> dict[str, Any]:
    return blocks._asdict() | {"relu": relu, "epsilon": np.float32(EPSILON)}


def _call(name: str, *shapes: tuple[int, ...]) -> Any:
    return jax.ffi.ffi_call(
        native.TARGETS[name],
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        vmap_method="sequential",
    )


def _or_empty(array: Array | None) -> Array:
    return jnp.zeros((0,), jnp.float32) if array is None else array
