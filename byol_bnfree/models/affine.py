"""The trainable scale and bias per channel. Every norm has them.

`Affine` has nothing else, so a network without norms has the same parameter tree.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.errors import InputError


class Affine(nn.Module):
    """y = scale * x + bias per channel, for networks without activation norm."""

    scale_init: float = 1.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b ... c"], train: bool = False
    ) -> Float[Array, "b ... c"]:
        scale, bias = (
            z.reshape((1,) * (x.ndim - 1) + z.shape) for z in scale_and_bias(self, x)
        )
        return (scale * x.astype(jnp.float32) + bias).astype(x.dtype)


def scale_and_bias(
    module: nn.Module, x: Array
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Return the trainable scale and bias of a module, float32 [c].

    Raises:
      InputError: if x is no batch of floats. All norms call this function first.
    """
    if x.ndim < 2:
        raise InputError(
            f"the input of a norm has shape {x.shape}; give a batch [b ... c], such as "
            f"x[None] for one image."
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(
            f"the input of a norm is {x.dtype}; give floats, such as "
            f"x.astype(jnp.float32)."
        )
    channels, scale_init = x.shape[-1:], nn.initializers.constant(module.scale_init)
    of_float32 = channels, jnp.float32  # also in x64 mode
    scale = module.param("scale", scale_init, *of_float32)
    return scale, module.param("bias", nn.initializers.zeros, *of_float32)
