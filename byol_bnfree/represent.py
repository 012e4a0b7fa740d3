"""Turns images into representations, for users and evaluations alike."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, UInt8

from byol_bnfree.config import AugmentConfig
from byol_bnfree.data.augment import normalized
from byol_bnfree.data.pixels import unit_pixels


def network_input(
    images: UInt8[Array, "b h w c"] | Float[Array, "b h w c"],
    augment: AugmentConfig,
    channels: int | None = None,
) -> Float[Array, "b h w c"]:
    """Normalize whole images, uint8 or floats in [0, 1].

    See `unit_pixels` for errors.
    """
    return normalized(unit_pixels(images, channels), augment)


def represent(
    module: nn.Module,
    variables: dict[str, Any],
    images: UInt8[Array, "b h w c"] | Float[Array, "b h w c"],
    augment: AugmentConfig,
) -> Float[Array, "b d"]:
    """Compute an encoder's representations of whole images in inference mode."""
    features = module.apply(variables, network_input(images, augment), False)
    return features.astype(jnp.float32)


def encoder_variables(params: Any, stats: Any) -> dict[str, Any]:
    """Return an encoder's variables from a network's parameters and statistics."""
    return variables_of(params["encoder"], stats.get("encoder"))


def variables_of(params: Any, stats: Any) -> dict[str, Any]:
    """Return a module's variables. Without statistics there is no "batch_stats"."""
    return {"params": params} | ({"batch_stats": stats} if stats else {})
