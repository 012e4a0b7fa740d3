"""The one place that knows the normalization variants.

`layers_for(norm)` returns the layer types that a network is built from. Every variant
gives the same parameter tree (`scale` and `bias` where a norm stands), so masks,
checkpoints and counts agree between the arms of a comparison.

| norm    | activations                         | kernels      |
|---------|-------------------------------------|--------------|
| `bn`    | BatchNorm over the global batch     | plain        |
| `gn_ws` | GroupNorm                           | standardized |
| `gn`    | GroupNorm                           | plain        |
| `ws`    | trainable scale and offset only     | standardized |
| `ln`    | GroupNorm with one group            | plain        |
| `none`  | trainable scale and offset only     | plain        |

arXiv 2010.10241 (P2) leaves the following open, and we chose: 16 groups (two
independent re-implementations use it), GroupNorm wherever BatchNorm stood (heads
included), standardizing the heads' dense kernels as well as the convolutions, the
epsilons, LayerNorm over (h, w, c) of an example, and keeping the trainable scale and
offset where there is no normalization. The linear probe is never standardized.
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
    """The layer types of a network; norms are called as `norm()(x, train)`."""

    conv: Callable[..., nn.Module]
    dense: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    relu: Callable[[Any], Array] = nn.relu
    """Of a norm's output, or a sum that begins with one (see `Kernels.normalize`)."""
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
    """Layer types of one normalization variant.

    Args:
      norm: one of `NORMS`; see the table of this module.
      groups: GroupNorm's groups, at most (`gn`, `gn_ws`).
      min_group_channels: a group is never thinner than this (`gn`, `gn_ws`).
      standardize_conv: standardize convolution kernels (`gn_ws`, `ws`).
      standardize_dense: standardize dense kernels (`gn_ws`, `ws`).
      stat_groups: `bn` takes statistics over this many equal groups of the batch.
      views: of every image in a training batch, side by side; see `BatchNorm`.
      dtype: of activations; parameters and statistics are float32.
      kernels: the functions that compute the layers.
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
    """Flax's `promote_dtype`, but the kernel stays float32 to be standardized."""
    inputs, _, bias = promote_dtype(inputs, kernel, bias, dtype=dtype)
    return inputs, kernel, bias


class StdConv(nn.Conv):
    """`nn.Conv` by its standardized kernel."""

    conv_general_dilated: Callable[..., Array] | None = XLA.std_conv
    promote_dtype: Callable[..., Any] = _all_but_kernel


class StdDense(nn.Dense):
    """`nn.Dense` by its standardized kernel."""

    dot_general: Callable[..., Array] | None = XLA.std_dense
    promote_dtype: Callable[..., Any] = _all_but_kernel


class Affine(nn.Module):
    """y = scale * x + bias per channel: what stands where there is no norm."""

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
    """Group normalization (arXiv 1803.08494): statistics of one image's groups.

    y = (x - mean) / sqrt(variance + 1e-5) * scale + bias

    The number of groups is the largest that leaves `min_channels` in a group, at
    most `max_groups`: 16 groups on a 16-channel layer would be instance norm.
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
    """Groups of a layer; `InputError` when they do not divide its channels."""
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

    Statistics are biased (E[x^2] - E[x]^2) over the whole batch, which under `jit`
    with a sharded batch means over all devices. `stat_groups` = n takes them over n
    equal contiguous groups of the batch instead, as per-device BatchNorm does; the
    running values then follow the mean over groups. Running values decay by 0.9 and
    are corrected for their zero start as in Adam; `train=False` reads them. Before
    the first update they count as mean 0 and variance 1.

    A training batch may hold several `views` of every image side by side, [(b v) ...].
    Each view is normalized by itself and moves the running values, the first view
    first, as if it had been passed alone.
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
            for view in range(self.views):
                mine = slice(view, None, self.views)
                running.update(means[mine].mean(0), variances[mine].mean(0))
        return y


def _images_of_a_block(batch: int, stat_groups: int, views: int) -> int:
    """Images of one view that share statistics; `InputError` unless that is equal."""
    if batch % (stat_groups * views):
        raise InputError(
            f"a batch of {batch} images ({views} views of each) cannot be cut into "
            f"{stat_groups} equal groups of statistics; choose a batch size that "
            f"{stat_groups * views} divides."
        )
    return batch // (stat_groups * views)


class _Running(NamedTuple):
    """Variables of a BatchNorm; they count as mean 0, variance 1 before an update."""

    mean: nn.Variable
    var: nn.Variable
    count: nn.Variable

    @staticmethod
    def of(module: nn.Module, channels: int) -> "_Running":
        """Those of a module; zeros at first."""
        zeros = partial(jnp.zeros, (channels,), jnp.float32)
        return _Running(
            module.variable("batch_stats", "mean", zeros),
            module.variable("batch_stats", "var", zeros),
            module.variable("batch_stats", "count", partial(jnp.zeros, (), jnp.int32)),
        )

    def update(self, mean: Float[Array, " c"], variance: Float[Array, " c"]) -> None:
        """Moves them towards those of a batch."""
        keep, add = BN_DECAY, 1 - BN_DECAY
        self.mean.value = keep * self.mean.value + add * mean
        self.var.value = keep * self.var.value + add * variance
        self.count.value = self.count.value + 1

    def moments(self) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
        """Mean and variance without the pull of their zero start."""
        fresh = self.count.value == 0
        correction = 1 - BN_DECAY ** self.count.value.astype(jnp.float32)
        safe = jnp.where(fresh, 1.0, correction)
        return self.mean.value / safe, jnp.where(fresh, 1.0, self.var.value / safe)


def _scale_and_bias(
    module: nn.Module, x: Array
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    channels, scale_init = x.shape[-1:], nn.initializers.constant(module.scale_init)
    scale = module.param("scale", scale_init, channels)
    return scale, module.param("bias", nn.initializers.zeros, channels)
