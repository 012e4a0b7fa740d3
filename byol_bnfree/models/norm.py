"""The one place that knows the normalization variants.

`layers_for(norm)` returns the three layer types that a network is built from. Every
variant gives the same parameter tree (`scale` and `bias` where a norm stands), so
masks, checkpoints and counts agree between the arms of a comparison.

| norm    | activations                         | kernels      |
|---------|-------------------------------------|--------------|
| `bn`    | BatchNorm over the global batch     | plain        |
| `gn_ws` | GroupNorm                           | standardized |
| `gn`    | GroupNorm                           | plain        |
| `ws`    | trainable scale and offset only     | standardized |
| `ln`    | GroupNorm with one group            | plain        |
| `none`  | trainable scale and offset only     | plain        |

What arXiv 2010.10241 (P2) leaves open, and we chose: 16 groups (two independent
re-implementations use it), GroupNorm wherever BatchNorm stood (heads included),
standardizing the heads' dense kernels as well as the convolutions, the epsilons,
LayerNorm over (h, w, c) of an example, and keeping the trainable scale and offset
where there is no normalization. The linear probe is never standardized.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from byol_bnfree.config import NORMS
from byol_bnfree.errors import InputError
from byol_bnfree.models.initializers import fan_in_init
from byol_bnfree.models.kernels import XLA, Kernels
from byol_bnfree.models.standardize import weight_standardize

EPSILON = 1e-5  # of BatchNorm (DeepMind's configs/byol.py) and GroupNorm
BN_DECAY = 0.9

Train = bool | int
"""Of a call: False for inference; True for training on one view of every example, or a
number n for n views that lie side by side, [(b n) ...], with batch statistics apart."""


class Layers(NamedTuple):
    """The layer types of a network.

    `norm` modules are called as `norm(x, train, shortcut=None, relu=False)`: they add
    the shortcut and apply the ReLU too, which can be done in the same pass. `train` is
    a number of views: see `Train`.
    """

    conv: Callable[..., nn.Module]
    dense: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]


def layers_for(
    norm: str,
    *,
    groups: int = 16,
    min_group_channels: int = 16,
    standardize_conv: bool = True,
    standardize_dense: bool = True,
    stat_groups: int = 1,
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
      dtype: of activations; parameters and statistics are float32.
      kernels: what computes convolutions and the normalization of images.
    """
    native = kernels.normalization
    by_groups = partial(GroupNorm, native=native)
    group_norm = partial(by_groups, max_groups=groups, min_channels=min_group_channels)
    norms: dict[str, Callable[..., nn.Module]] = {
        "bn": partial(BatchNorm, stat_groups=stat_groups, native=native),
        "gn_ws": group_norm,
        "gn": group_norm,
        "ws": Affine,
        "ln": partial(by_groups, max_groups=1, min_channels=1),
        "none": Affine,
    }
    if norm not in norms:
        raise InputError(f"norm is {norm!r}; choose one of {', '.join(NORMS)}.")
    conv, dense = _products(kernels)
    if norm in ("gn_ws", "ws"):
        standardizing_conv, standardizing_dense = _standardizing(kernels, dtype)
        conv = standardizing_conv if standardize_conv else conv
        dense = standardizing_dense if standardize_dense else dense
    return Layers(
        conv=partial(conv, use_bias=False, kernel_init=fan_in_init, dtype=dtype),
        dense=partial(dense, kernel_init=fan_in_init, dtype=dtype),
        norm=norms[norm],
    )


def _products(kernels: Kernels) -> tuple[Callable[..., nn.Module], ...]:
    """Convolution and dense layer of plain kernels."""
    return (
        partial(nn.Conv, conv_general_dilated=kernels.convolution),
        partial(nn.Dense, dot_general=kernels.product),
    )


def _standardizing(
    kernels: Kernels, dtype: DTypeLike
) -> tuple[Callable[..., nn.Module], ...]:
    """The same of standardized kernels: float32 ones by who multiplies with them."""
    if not kernels.native or dtype != jnp.float32:
        return (
            partial(StdConv, conv_general_dilated=kernels.convolution),
            partial(StdDense, dot_general=kernels.product),
        )
    return (
        partial(
            nn.Conv,
            conv_general_dilated=partial(kernels.convolution, standardized=True),
        ),
        partial(nn.Dense, dot_general=partial(kernels.product, standardized=True)),
    )


class StdConv(nn.Conv):
    """`nn.Conv` whose kernel is standardized where it is read."""

    def param(self, name, *args, **kwargs):
        value = super().param(name, *args, **kwargs)
        return weight_standardize(value) if name == "kernel" else value


class StdDense(nn.Dense):
    """`nn.Dense` whose kernel is standardized where it is read."""

    def param(self, name, *args, **kwargs):
        value = super().param(name, *args, **kwargs)
        return weight_standardize(value) if name == "kernel" else value


class Affine(nn.Module):
    """y = scale * x + bias per channel: what stands where there is no norm."""

    scale_init: float = 1.0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b ... c"],
        train: Train,
        shortcut: Float[Array, "b ... c"] | None = None,
        relu: bool = False,
    ) -> Float[Array, "b ... c"]:
        scale, bias = _scale_and_bias(self, x.shape[-1], self.scale_init)
        return _finish(self, _scale_shift(x, scale, bias), shortcut, relu)


class GroupNorm(nn.Module):
    """Group normalization (arXiv 1803.08494): statistics of one example's groups.

    The number of groups is the largest that leaves `min_channels` in a group, at
    most `max_groups`: 16 groups on a 16-channel layer would be instance norm.
    """

    max_groups: int = 16
    min_channels: int = 16
    scale_init: float = 1.0
    native: Callable[..., Any] | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b ... c"],
        train: Train,
        shortcut: Float[Array, "b ... c"] | None = None,
        relu: bool = False,
    ) -> Float[Array, "b ... c"]:
        channels = x.shape[-1]
        groups = group_count(channels, self.max_groups, self.min_channels)
        scale, bias = _scale_and_bias(self, channels, self.scale_init)
        if self.native is not None and x.dtype == jnp.float32:
            blocks = {"images": 1, "groups": groups}
            return self.native(
                x, scale, bias, shortcut, **blocks, relu=relu, epsilon=EPSILON
            )[0]
        mean, variance = _group_moments(x, groups)  # [b g]
        scale = rearrange(scale, "(g c) -> 1 g c", g=groups)
        factor = jax.lax.rsqrt(variance + EPSILON)[:, :, None] * scale
        offset = rearrange(bias, "(g c) -> 1 g c", g=groups) - mean[:, :, None] * factor
        middle = (1,) * (x.ndim - 2)
        shape = (x.shape[0], *middle, channels)
        y = _scale_shift(x, factor.reshape(shape), offset.reshape(shape))
        return _finish(self, y, shortcut, relu)


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

    Statistics are biased (E[x^2] - E[x]^2) over the whole batch, which under `jit`
    with a sharded batch means over all devices. `stat_groups` = n takes them over n
    equal contiguous groups of the batch instead, as per-device BatchNorm does; the
    running values then follow the mean over groups. Running values decay by 0.9 and
    are corrected for their zero start as in Adam; `train=False` reads them. Before
    the first update they count as mean 0 and variance 1.

    Of several views side by side (`Train`) each is normalized by itself and moves the
    running values, the first view first, as if it had been passed alone.
    """

    stat_groups: int = 1
    scale_init: float = 1.0
    native: Callable[..., Any] | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b ... c"],
        train: Train,
        shortcut: Float[Array, "b ... c"] | None = None,
        relu: bool = False,
    ) -> Float[Array, "b ... c"]:
        channels = x.shape[-1]
        scale, bias = _scale_and_bias(self, channels, self.scale_init)
        running = self._running(channels)
        parts = {"n": self.stat_groups if train else 1, "v": max(int(train), 1)}
        if train and self.native is not None and x.dtype == jnp.float32:
            y, mean, variance = self.native(
                *(x, scale, bias, shortcut),
                images=len(x) // (parts["n"] * parts["v"]),
                views=parts["v"],
                groups=channels,
                relu=relu,
                epsilon=EPSILON,
            )
            self._update(running, mean, variance, **parts)
            return y
        grouped = rearrange(x, "(n b v) ... c -> n b v ... c", **parts)
        if train:
            mean, variance = _moments(grouped, (0, 2, -1))  # [n v c]
            self._update(running, mean, variance, **parts)
        else:
            mean, variance = running.corrected()
        factor = jax.lax.rsqrt(variance + EPSILON) * scale[None, None]
        offset = bias[None, None] - mean * factor
        middle = (1, *range(3, grouped.ndim - 1))
        factor, offset = (jnp.expand_dims(z, middle) for z in (factor, offset))
        y = _scale_shift(grouped, factor, offset).reshape(x.shape)
        return _finish(self, y, shortcut, relu)

    def _running(self, channels: int) -> "_Running":
        zeros = partial(jnp.zeros, (channels,), jnp.float32)
        return _Running(
            self.variable("batch_stats", "mean", zeros),
            self.variable("batch_stats", "var", zeros),
            self.variable("batch_stats", "count", partial(jnp.zeros, (), jnp.int32)),
        )

    def _update(
        self, running: "_Running", mean: Array, variance: Array, n: int, v: int
    ) -> None:
        """Moves the running values towards those of every view of a batch, [n v c]."""
        if self.is_initializing():
            return
        keep, add = BN_DECAY, 1 - BN_DECAY
        means, variances = (z.reshape(n, v, -1).mean(0) for z in (mean, variance))
        for view in range(v):
            running.mean.value = keep * running.mean.value + add * means[view]
            running.var.value = keep * running.var.value + add * variances[view]
            running.count.value = running.count.value + 1


class _Running(NamedTuple):
    """Variables of a BatchNorm; they count as mean 0, variance 1 before an update."""

    mean: nn.Variable
    var: nn.Variable
    count: nn.Variable

    def corrected(self) -> tuple[Float[Array, "1 1 c"], Float[Array, "1 1 c"]]:
        """Mean and variance without the pull of their zero start."""
        fresh = self.count.value == 0
        correction = 1 - BN_DECAY ** self.count.value.astype(jnp.float32)
        safe = jnp.where(fresh, 1.0, correction)
        variance = jnp.where(fresh, 1.0, self.var.value / safe)
        return (self.mean.value / safe)[None, None], variance[None, None]


def _moments(x: Array, kept: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and biased variance over all but the `kept` axes in float32, reading x once.

    The others stay apart: merged, their gradient is 20 times slower on XLA:CPU.
    """
    mean, square = _mean_and_square(x, kept)
    return mean, jnp.maximum(square - jnp.square(mean), 0.0)


def _group_moments(x: Float[Array, "b ... c"], groups: int) -> tuple[Array, Array]:
    """Mean and biased variance of each example's groups of channels, [b g].

    A channel's means first, then those of its group: a third faster on XLA:CPU.
    """
    means = _mean_and_square(x, (0, -1))
    mean, square = (rearrange(m, "b (g c) -> b g c", g=groups).mean(-1) for m in means)
    return mean, jnp.maximum(square - jnp.square(mean), 0.0)


def _mean_and_square(x: Array, kept: tuple[int, ...]) -> tuple[Array, Array]:
    """Means of x and of its square over all but the `kept` axes."""
    x = x.astype(jnp.float32)
    others = tuple(set(range(x.ndim)) - {axis % x.ndim for axis in kept})
    return x.mean(others), jnp.square(x).mean(others)


def _finish(module: nn.Module, y: Array, shortcut: Array | None, relu: bool) -> Array:
    """What follows a normalization; its own output is kept for `diagnostics.layers`."""
    module.sow("intermediates", "normalized", y)
    y = y if shortcut is None else y + shortcut
    return nn.relu(y) if relu else y


def _scale_and_bias(module: nn.Module, channels: int, scale_init: float):
    scale = module.param("scale", nn.initializers.constant(scale_init), (channels,))
    bias = module.param("bias", nn.initializers.zeros, (channels,))
    return scale, bias


def _scale_shift(x: Array, scale: Array, bias: Array) -> Array:
    """scale * x + bias in float32, in the dtype of x."""
    expand = (1,) * (x.ndim - scale.ndim)
    scale, bias = scale.reshape(expand + scale.shape), bias.reshape(expand + bias.shape)
    return (x.astype(jnp.float32) * scale + bias).astype(x.dtype)
