"""Flax's convolution and dense layer with standardized kernels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array

from byol_bnfree.errors import InputError
from byol_bnfree.models.kernels import XLA


def _all_but_kernel(inputs: Array, kernel: Array, bias: Array | None, *, dtype):
    """Act as Flax's `promote_dtype`, but leave the kernel in float32.

    Weight standardization needs the kernel in float32. It casts the result to `dtype`.
    """
    inputs, _, bias = promote_dtype(inputs, kernel, bias, dtype=dtype)
    return inputs, kernel, bias


@dataclass(frozen=True)
class Standardizing:
    """A product that standardizes its kernel. Standardized layers call no other."""

    product: Callable[..., Array]

    def __call__(self, *arguments: Any, **options: Any) -> Array:
        """Return the product."""
        return self.product(*arguments, **options)


class StdConv(nn.Conv):
    """`nn.Conv` with weight standardization of its kernel; see `weight_standardize`.

    Each output channel has mean 0 and variance 1 / fan_in (arXiv 1903.10520, with the
    factor of arXiv 2101.08692).

    Raises:
      InputError: for a `mask`, which standardization would undo, and for arguments that
        replace it: `promote_dtype`, `conv_general_dilated`, `conv_general_dilated_cls`.
    """

    conv_general_dilated: Callable[..., Array] = Standardizing(XLA.std_conv)
    promote_dtype: Callable[..., Any] = _all_but_kernel

    def __post_init__(self):
        """Refuse what would leave the kernel without standardization."""
        _check_standardizes(
            "conv",
            mask=self.mask is None,
            promote_dtype=self.promote_dtype is _all_but_kernel,
            conv_general_dilated=isinstance(self.conv_general_dilated, Standardizing),
            conv_general_dilated_cls=self.conv_general_dilated_cls is None,
        )
        super().__post_init__()


class StdDense(nn.Dense):
    """`nn.Dense` with weight standardization of its kernel; see `StdConv`.

    Raises:
      InputError: for `promote_dtype`, `dot_general` and `dot_general_cls`.
    """

    dot_general: Callable[..., Array] = Standardizing(XLA.std_dense)
    promote_dtype: Callable[..., Any] = _all_but_kernel

    def __post_init__(self):
        """Refuse what would leave the kernel without standardization."""
        _check_standardizes(
            "dense",
            promote_dtype=self.promote_dtype is _all_but_kernel,
            dot_general=isinstance(self.dot_general, Standardizing),
            dot_general_cls=self.dot_general_cls is None,
        )
        super().__post_init__()


def _check_standardizes(layer: str, **kept: bool) -> None:
    """Raise `InputError` for the first argument that is not kept as it must be."""
    for name, is_kept in kept.items():
        if not is_kept:
            raise InputError(
                f"{name} was given to a {layer} layer with weight standardization, and "
                f"one would undo the other; leave it out, or use "
                f"flax.linen.{layer.title()} or a norm with plain kernels, such as gn."
            )
