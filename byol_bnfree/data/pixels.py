"""Checks users' images (uint8, or floats in [0, 1]) and converts them to float32."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from byol_bnfree.errors import InputError

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
      InputError: for another dtype, shape, range or number of channels, and for NaN.
    """
    if not hasattr(images, "dtype"):
        try:
            images = np.asarray(images)
        except ValueError:
            raise InputError(
                "images differ in shape; give one array [b h w c], or one image at a "
                "time."
            ) from None
    check_type(images)  # before JAX converts the array: it would make int64 to int32
    shape = tuple(images.shape)
    if len(shape) != 4 or 0 in shape:
        example = " (images[None] makes it a batch)" if len(shape) == 3 else ""
        raise InputError(
            f"images have shape {shape}; give a batch [b h w c] of at least one "
            f"image{example}."
        )
    if channels is not None and shape[-1] != channels:
        first = shape[1] == channels
        raise InputError(
            f"images have {shape[-1]} channel{'s' * (shape[-1] > 1)} in their last "
            f"axis, but the encoder was trained on {channels}; "
            + ("move their second axis to the end." if first else "convert them first.")
        )
    if images.dtype == np.uint8:
        return jnp.asarray(images).astype(jnp.float32) / 255
    if not isinstance(images, jax.core.Tracer):
        _check_range(images)
    if isinstance(images, np.ndarray):
        images = images.astype(np.float32)  # JAX takes no other order of bytes
    return jnp.asarray(images).astype(jnp.float32)


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
