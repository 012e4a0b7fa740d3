"""The normalization variants. No other module knows them.

`layers_for(norm)` returns the layer types that a network is built from. Every variant
gives the same parameter tree: each norm has `scale` and `bias`, or the layer in its
place has. Masks, checkpoints and parameter counts therefore agree between variants.

| norm    | activations                         | kernels      |
|---------|-------------------------------------|--------------|
| `bn`    | BatchNorm over the global batch     | plain        |
| `gn_ws` | GroupNorm                           | standardized |
| `gn`    | GroupNorm                           | plain        |
| `ws`    | trainable scale and offset only     | standardized |
| `ln`    | GroupNorm with one group            | plain        |
| `none`  | trainable scale and offset only     | plain        |

arXiv 2010.10241 (P2, "BYOL works even without batch statistics") leaves some details
open. We chose:

- 16 groups, as in two independent re-implementations;
- GroupNorm in every place of BatchNorm, the heads included;
- standardized dense kernels in the heads, besides the convolutions;
- the values of epsilon;
- LayerNorm over (h, w, c) of one image;
- a trainable scale and offset where there is no normalization.

The linear probe is never standardized.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from byol_bnfree.config import NORMS
from byol_bnfree.errors import InputError
from byol_bnfree.models.initializers import fan_in_init
from byol_bnfree.models.kernels import XLA, Kernels, with_moments

BN_DECAY = 0.9


class Layers(NamedTuple):
    """The layer types of a network. Norms are called as `norm()(x, train)`."""

    conv: Callable[..., nn.Module]
    dense: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    relu: Callable[[Any], Array] = nn.relu
    """Takes the output of a norm, or a sum whose first term is one (see
    `Kernels.normalize`)."""
    max_pool: Callable[..., Array] = XLA.max_pool


def layers_for(
    norm: str,
    *,
    groups: int = 16,
    min_group_channels: int = 16,
    standardize_conv: bool = True,
    standardize_dense: bool = True,
    stat_groups: int = 1,
    views: int = 1,
    dtype: DTypeLike = jnp.float32,
    kernels: Kernels = XLA,
) -> Layers:
    """Return the layer types of one normalization variant.

    Args:
      norm: one of `NORMS`; see the table of this module.
      groups: largest number of groups in a GroupNorm (`gn`, `gn_ws`).
      min_group_channels: smallest number of channels in a group (`gn`, `gn_ws`).
      standardize_conv: standardize the kernels of convolutions (`gn_ws`, `ws`).
      standardize_dense: standardize the kernels of dense layers (`gn_ws`, `ws`).
      stat_groups: number of equal groups of the batch that `bn` normalizes separately.
      views: views of each image in a training batch, side by side; see `BatchNorm`.
      dtype: dtype of activations. Parameters and statistics are float32.
      kernels: the functions that compute the layers.

    Raises:
      InputError: for an unknown norm.
    """
    normalize = kernels.normalize
    group_norm = partial(GroupNorm, normalize=normalize)
    by_groups = partial(group_norm, max_groups=groups, min_channels=min_group_channels)
    norms: dict[str, Callable[..., nn.Module]] = {
        "bn": partial(
            BatchNorm, stat_groups=stat_groups, views=views, normalize=normalize
        ),
        "gn_ws": by_groups,
        "gn": by_groups,
        "ws": Affine,
        "ln": partial(group_norm, max_groups=1, min_channels=1),
        "none": Affine,
    }
    if norm not in norms:
        raise InputError(f"norm is {norm!r}; choose one of {', '.join(NORMS)}.")
    conv = partial(nn.Conv, conv_general_dilated=kernels.conv)
    dense = partial(nn.Dense, dot_general=kernels.dense)
    if norm in ("gn_ws", "ws") and standardize_conv:
        conv = partial(StdConv, conv_general_dilated=kernels.std_conv)
    if norm in ("gn_ws", "ws") and standardize_dense:
        dense = partial(StdDense, dot_general=kernels.std_dense)
    return Layers(
        conv=partial(conv, use_bias=False, kernel_init=fan_in_init, dtype=dtype),
        dense=partial(dense, kernel_init=fan_in_init, dtype=dtype),
        norm=norms[norm],
        relu=kernels.relu,
        max_pool=kernels.max_pool,
    )


def _all_but_kernel(inputs: Array, kernel: Array, bias: Array | None, *, dtype):
    """Act as Flax's `promote_dtype`, but leave the kernel in float32.

    Weight standardization needs the kernel in float32. It casts the result to `dtype`.
    """
    inputs, _, bias = promote_dtype(inputs, kernel, bias, dtype=dtype)
    return inputs, kernel, bias


class StdConv(nn.Conv):
    """`nn.Conv` with weight standardization of its kernel."""

    conv_general_dilated: Callable[..., Array] | None = XLA.std_conv
    promote_dtype: Callable[..., Any] = _all_but_kernel


class StdDense(nn.Dense):
    """`nn.Dense` with weight standardization of its kernel."""

    dot_general: Callable[..., Array] | None = XLA.std_dense
    promote_dtype: Callable[..., Any] = _all_but_kernel


class Affine(nn.Module):
    """y = scale * x + bias per channel, for networks without activation norm."""

    scale_init: float = 1.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b ... c"], train: bool = False
    ) -> Float[Array, "b ... c"]:
        scale, bias = (
            z.reshape((1,) * (x.ndim - 1) + z.shape) for z in _scale_and_bias(self, x)
        )
        return (scale * x.astype(jnp.float32) + bias).astype(x.dtype)


class GroupNorm(nn.Module):
    """Group normalization (arXiv 1803.08494) with statistics of one image only.

    y = (x - mean) / sqrt(variance + 1e-5) * scale + bias

    A layer has at most `max_groups` groups, and each group has at least `min_channels`
    channels. Without the second limit, 16 groups on 16 channels would be instance norm.
    """

    max_groups: int = 16
    min_channels: int = 16
    scale_init: float = 1.0
    normalize: Callable[..., Any] = XLA.normalize

    @nn.compact
    def __call__(
        self, x: Float[Array, "b ... c"], train: bool = False
    ) -> Float[Array, "b ... c"]:
        groups = group_count(x.shape[-1], self.max_groups, self.min_channels)
        scale, bias = _scale_and_bias(self, x)
        y, _, _ = self.normalize(x, scale, bias, images=1, groups=groups)
        return y


def group_count(channels: int, max_groups: int, min_channels: int) -> int:
    """Return the number of groups; `InputError` if it does not divide the channels."""
    groups = max(1, min(max_groups, channels // min_channels))
    if channels % groups:
        raise InputError(
            f"a layer of {channels} channels cannot be cut into {groups} equal groups; "
            f"choose a width or a number of groups that divides it."
        )
    return groups


class BatchNorm(nn.Module):
    """Batch normalization exactly as in DeepMind's BYOL (Haiku's BatchNorm).

    y = (x - mean) / sqrt(variance + 1e-5) * scale + bias

    Statistics are biased (E[x^2] - E[x]^2) and cover the whole batch. Under `jit` with
    a sharded batch that means all devices. `stat_groups` = n takes statistics of n
    equal contiguous groups of the batch instead, as per-device BatchNorm does. The
    running statistics then follow the mean over the groups.

    Running statistics decay by 0.9 and are corrected for their start at zero, as in
    Adam. `train=False` normalizes by them. Before the first update they count as mean 0
    and variance 1.

    A training batch may hold several `views` of each image side by side, [(b v) ...].
    Each view is normalized alone. The views update the running statistics one after
    the other, as in separate passes.
    """

    stat_groups: int = 1
    views: int = 1
    scale_init: float = 1.0
    normalize: Callable[..., Any] = XLA.normalize

    @nn.compact
    def __call__(
        self, x: Float[Array, "b ... c"], train: bool = False
    ) -> Float[Array, "b ... c"]:
        channels = x.shape[-1]
        scale, bias = _scale_and_bias(self, x)
        running = _Running.of(self, channels)
        if not train:
            moments = (jnp.expand_dims(m, range(x.ndim - 1)) for m in running.moments())
            return with_moments(x, *moments, scale, bias)
        images = _images_of_a_block(len(x), self.stat_groups, self.views)
        y, means, variances = self.normalize(
            x, scale, bias, images=images, groups=channels, views=self.views
        )
        if not self.is_initializing():
            # Image i belongs to view i mod `views`, and so do the rows of the moments.
            for view in range(self.views):
                mine = slice(view, None, self.views)
                running.update(means[mine].mean(0), variances[mine].mean(0))
        return y


def _images_of_a_block(batch: int, stat_groups: int, views: int) -> int:
    """Return how many images of one view share statistics.

    Raises:
      InputError: if the batch cannot be cut into equal groups.
    """
    if batch % (stat_groups * views):
        raise InputError(
            f"a batch of {batch} images ({views} views of each) cannot be cut into "
            f"{stat_groups} equal groups of statistics; choose a batch size that "
            f"{stat_groups * views} divides."
        )
    return batch // (stat_groups * views)


class _Running(NamedTuple):
    """The running statistics of a BatchNorm, [c] each, and the number of updates."""

    mean: nn.Variable
    var: nn.Variable
    count: nn.Variable

    @staticmethod
    def of(module: nn.Module, channels: int) -> "_Running":
        """Return the statistics of a module. They start at zero."""
        zeros = partial(jnp.zeros, (channels,), jnp.float32)
        return _Running(
            module.variable("batch_stats", "mean", zeros),
            module.variable("batch_stats", "var", zeros),
            module.variable("batch_stats", "count", partial(jnp.zeros, (), jnp.int32)),
        )

    def update(self, mean: Float[Array, " c"], variance: Float[Array, " c"]) -> None:
        """Move the running statistics towards the batch's."""
        keep, add = BN_DECAY, 1 - BN_DECAY
        self.mean.value = keep * self.mean.value + add * mean
        self.var.value = keep * self.var.value + add * variance
        self.count.value = self.count.value + 1

    def moments(self) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
        """Return mean and variance, corrected for the start at zero.

        After n updates the zeros still have the weight 0.9^n. Dividing by 1 - 0.9^n
        removes it. Before the first update this gives mean 0 and variance 1.
        """
        fresh = self.count.value == 0
        correction = 1 - BN_DECAY ** self.count.value.astype(jnp.float32)
        safe = jnp.where(fresh, 1.0, correction)
        return self.mean.value / safe, jnp.where(fresh, 1.0, self.var.value / safe)


def _scale_and_bias(
    module: nn.Module, x: Array
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Return the trainable scale and bias of a module, float32 [c]."""
    channels, scale_init = x.shape[-1:], nn.initializers.constant(module.scale_init)
    scale = module.param("scale", scale_init, channels)
    return scale, module.param("bias", nn.initializers.zeros, channels)
