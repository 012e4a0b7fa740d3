"""Checks users' images (uint8, or floats in [0, 1]) and converts them to float32."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from byol_bnfree.errors import InputError
from byol_bnfree.settings.types import MOST_CHANNELS

ROUNDING = 1e-3  # tolerance beyond [0, 1]; a resize in bfloat16 may leave it by as much


def unit_pixels(
    images: Array | np.ndarray, channels: int | None = None
) -> Float[Array, "b h w c"]:
    """Convert images to float32 in [0, 1].

    Args:
      images: [b h w c], uint8 or floats in [0, 1]. Values are checked, except inside
        compiled functions, where they are not known yet.
      channels: required number of channels; None accepts any.

    Raises:
      InputError: as `checked_images`.
    """
    images = checked_images(images, channels)
    if images.dtype == np.uint8:
        return jnp.asarray(images).astype(jnp.float32) / 255
    if isinstance(images, np.ndarray):
        images = images.astype(np.float32)  # JAX takes no other order of bytes
    return jnp.asarray(images).astype(jnp.float32)


def checked_images(images: Any, channels: int | None = None) -> Array | np.ndarray:
    """Return images as they are, or a list of them as an array; see `unit_pixels`.

    Raises:
      InputError: for another dtype, shape, range or number of channels, and for NaN.
    """
    images = as_array(images)
    check_type(images)  # before JAX converts the array: it would make int64 to int32
    shape = tuple(images.shape)
    if len(shape) != 4 or 0 in shape:
        raise InputError(
            f"images have shape {shape}; give a batch [b h w c] of at least one "
            f"image{_example(shape, channels)}."
        )
    if channels is None and shape[1] <= 4 < min(shape[2:]):
        raise InputError(
            f"images have shape {shape}, which looks like [b c h w]; move their second "
            f"axis to the end: np.moveaxis(images, 1, -1)."
        )
    if channels is not None and shape[-1] != channels:
        first = shape[1] == channels
        raise InputError(
            f"images have {shape[-1]} channel{'s' * (shape[-1] > 1)} in their last "
            f"axis, but the encoder was trained on {channels}; "
            + ("move their second axis to the end." if first else "convert them first.")
        )
    if images.dtype != np.uint8 and not isinstance(images, jax.core.Tracer):
        _check_range(images)
    return images


def as_array(images: Any) -> Array | np.ndarray:
    """Return an array of NumPy or JAX, made of a list if it is one.

    Raises:
      InputError: for lists of unequal shapes, and for arrays of other libraries.
    """
    if not hasattr(images, "dtype"):
        try:
            made = np.asarray(images)
        except ValueError:
            raise InputError(
                "images differ in shape; give one array [b h w c], or one image at a "
                "time."
            ) from None
        if made.dtype.kind in "OUS":  # None, a path, a list of objects
            raise InputError(
                f"images are a {type(images).__name__}; give an array [b h w c]."
            )
        return made
    if not isinstance(images, jax.Array | np.ndarray | np.generic):
        raise InputError(
            f"images are a {type(images).__name__} of {images.dtype}; give an array of "
            f"NumPy or JAX, such as np.asarray(images)."
        )
    return images


def _example(shape: tuple[int, ...], channels: int | None) -> str:
    """Say how one picture, or gray pictures without channels, become a batch."""
    if len(shape) != 3:
        return ""
    if shape[-1] > MOST_CHANNELS or (channels == 1 and shape[-1] != 1):
        return " (images[..., None] gives gray ones their channel)"
    return " (images[None] makes it a batch)"


def check_type(images: Array | np.ndarray) -> None:
    """Raise `InputError` unless images are uint8 or floats, without a mask."""
    if isinstance(images, np.ma.MaskedArray):
        raise InputError("images have a mask; fill it first: images.filled(0).")
    if not (images.dtype == np.uint8 or jnp.issubdtype(images.dtype, jnp.floating)):
        raise InputError(
            f"images are {images.dtype}; give uint8 pixels from 0 to 255, or floats "
            f"from 0 to 1."
        )


def _check_range(images: Array | np.ndarray) -> None:
    # Constants of a compiled function too: their minimum would be traced otherwise.
    with jax.ensure_compile_time_eval():
        least, most = float(images.min()), float(images.max())
    if not (np.isfinite(least) and np.isfinite(most)):
        raise InputError(
            "images hold NaN or infinity; give floats from 0 to 1, or uint8 pixels."
        )
    if least < -ROUNDING or most > 1 + ROUNDING:
        raise InputError(
            f"images are floats from {least:g} to {most:g}; give floats from 0 to 1, "
            f"not normalized (divide pixels by 255), or uint8 pixels."
        )
