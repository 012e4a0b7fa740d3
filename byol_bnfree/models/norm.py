"""The normalization variants. Layers are chosen by the name of a norm only here.

`layers_for(norm)` returns the layer types that a network is built from. Every variant
gives the same parameter tree: each norm has `scale` and `bias`, or the layer in its
place has. Masks, checkpoints and parameter counts therefore agree between variants.
This needs names of the layers, because Flax names others after their classes.

| norm    | activations                         | kernels      |
|---------|-------------------------------------|--------------|
| `bn`    | BatchNorm over the global batch     | plain        |
| `gn_ws` | GroupNorm                           | standardized |
| `gn`    | GroupNorm                           | plain        |
| `ws`    | trainable scale and bias only       | standardized |
| `ln`    | GroupNorm with one group            | plain        |
| `none`  | trainable scale and bias only       | plain        |

arXiv 2010.10241 (P2, "BYOL works even without batch statistics") leaves some details
open. We chose:

- 16 groups, as in two independent re-implementations;
- GroupNorm in every place of BatchNorm, the heads included;
- standardized dense kernels in the heads, besides the convolutions;
- the values of epsilon;
- LayerNorm over (h, w, c) of one image;
- a trainable scale and bias where there is no normalization.

The linear probe is never standardized.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from byol_bnfree.errors import InputError
from byol_bnfree.models.affine import Affine, scale_and_bias
from byol_bnfree.models.batch_norm import BatchNorm
from byol_bnfree.models.initializers import fan_in_init
from byol_bnfree.models.kernels import XLA, Kernels, by_unit_kernels
from byol_bnfree.models.standardized_layers import Standardizing, StdConv, StdDense
from byol_bnfree.settings.checks import check_network
from byol_bnfree.settings.names import NORMS, STANDARDIZED
from byol_bnfree.settings.network import ModelConfig
from byol_bnfree.settings.types import is_count

# A partial is equal only to itself. Networks of the same arguments must be equal: one
# that is a static argument of a compiled function would compile it again.
_once = lru_cache(partial)


class Layers(NamedTuple):
    """The layer types of a network. Norms are called as `norm()(x, train)`."""

    conv: Callable[..., nn.Module]
    dense: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    relu: Callable[[Any], Array] = nn.relu
    """Takes the output of a norm, or a sum whose first term is one (see
    `Kernels.normalize`)."""
    max_pool: Callable[..., Array] = XLA.max_pool


class NormOptions(TypedDict, total=False):
    """Arguments of `layers_for` that functions hand on, each with its default there."""

    groups: int
    min_group_channels: int
    standardize_conv: bool
    unit_kernels: bool
    standardize_dense: bool
    stat_groups: int
    views: int
    kernels: Kernels


def layers_for(
    norm: str,
    *,
    groups: int = 16,
    min_group_channels: int = 16,
    standardize_conv: bool = True,
    unit_kernels: bool = False,
    standardize_dense: bool = True,
    stat_groups: int = 1,
    views: int = 1,
    dtype: DTypeLike = jnp.float32,
    kernels: Kernels = XLA,
) -> Layers:
    """Return the layer types of one normalization variant.

    Args:
      norm: a value of `Norm`; see The norms (docs/norms.md).
      groups: largest number of groups in a GroupNorm (`gn`, `gn_ws`).
      min_group_channels: smallest number of channels in a group (`gn`, `gn_ws`).
      standardize_conv: standardize the kernels of convolutions (`gn_ws`, `ws`).
      unit_kernels: give standardized kernels of convolutions variance 1 (`gn_ws`).
      standardize_dense: standardize the kernels of dense layers (`gn_ws`, `ws`).
      stat_groups: number of equal groups of the batch that `bn` normalizes separately.
      views: views of each image in a training batch, side by side. `bn` normalizes
        each view alone.
      dtype: dtype of activations. Parameters and statistics are float32.
      kernels: the functions that compute the layers.

    Raises:
      InputError: for an unknown norm, for `unit_kernels` without gn_ws's kernels, for
        an unknown dtype, and for numbers that no command line takes.
    """
    check_network(
        ModelConfig(
            groups=groups,
            min_group_channels=min_group_channels,
            standardize_conv=standardize_conv,
            unit_kernels=unit_kernels,
            standardize_dense=standardize_dense,
        )
    )
    _check_options(stat_groups, views, dtype)
    normalize = kernels.normalize
    group_norm = _once(GroupNorm, normalize=normalize)
    # gn and gn_ws differ in their kernels only.
    by_groups = _once(group_norm, max_groups=groups, min_channels=min_group_channels)
    norms: dict[str, Callable[..., nn.Module]] = {
        "bn": _once(
            BatchNorm, stat_groups=stat_groups, views=views, normalize=normalize
        ),
        "gn_ws": by_groups,
        "gn": by_groups,
        "ws": Affine,
        "ln": _once(group_norm, max_groups=1, min_channels=1),
        "none": Affine,
    }
    if norm not in norms:
        raise InputError(f"norm is {norm!r}; choose one of {', '.join(NORMS)}.")
    if unit_kernels and not (norm == "gn_ws" and standardize_conv):
        raise InputError(
            f"unit_kernels scales the standardized kernels of gn_ws, but norm is "
            f"{norm} and standardize_conv {standardize_conv}; use gn_ws with "
            f"standardized kernels, or leave unit_kernels out."
        )
    # The kernels decide how to standardize: the C++ does so within the convolution.
    standardized = norm in STANDARDIZED
    conv = _conv(kernels, standardized and standardize_conv, unit_kernels)
    dense = _dense(kernels, standardized and standardize_dense)
    return Layers(
        conv=_once(conv, use_bias=False, kernel_init=fan_in_init, dtype=dtype),
        dense=_once(dense, kernel_init=fan_in_init, dtype=dtype),
        norm=norms[norm],
        relu=kernels.relu,
        max_pool=kernels.max_pool,
    )


def _check_options(stat_groups: int, views: int, dtype: DTypeLike) -> None:
    for name, count in (("stat_groups", stat_groups), ("views", views)):
        if not is_count(count):
            raise InputError(f"{name} is {count!r}; it must be a positive number.")
    try:
        known = jnp.issubdtype(dtype, jnp.floating)
    except TypeError:
        known = False
    if not known:
        raise InputError(
            f"dtype is {dtype!r}; it must be one of floats, such as float32 or "
            f"bfloat16."
        )


def _conv(kernels: Kernels, standardized: bool, unit: bool) -> Callable[..., nn.Module]:
    if not standardized:
        return _once(nn.Conv, conv_general_dilated=kernels.conv)
    product = kernels.std_conv
    if unit:
        product = _once(by_unit_kernels, product)
    return _once(StdConv, conv_general_dilated=Standardizing(product))


def _dense(kernels: Kernels, standardized: bool) -> Callable[..., nn.Module]:
    if not standardized:
        return _once(nn.Dense, dot_general=kernels.dense)
    return _once(StdDense, dot_general=Standardizing(kernels.std_dense))


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
        scale, bias = scale_and_bias(self, x)
        groups = group_count(x.shape[-1], self.max_groups, self.min_channels)
        y, _, _ = self.normalize(x, scale, bias, images=1, groups=groups)
        return y


def check_channels(layers: Layers, channels: Iterable[int]) -> None:
    """Raise `InputError` if the norm cannot normalize layers of so many channels.

    Nothing is computed. So a wrong size is found before there are images.
    """
    for count in channels:
        x = jax.ShapeDtypeStruct((2, count), jnp.float32)
        jax.eval_shape(layers.norm(parent=None).init, jax.random.key(0), x)


def group_count(channels: int, max_groups: int, min_channels: int) -> int:
    """Return the number of groups; `InputError` if it does not divide the channels."""
    groups = max(1, min(max_groups, channels // min_channels))
    if channels % groups:
        raise InputError(
            f"a layer of {channels} channels cannot be cut into {groups} equal groups; "
            f"choose a width or a number of groups that divides it."
        )
    return groups
