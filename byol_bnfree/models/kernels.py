"""What computes the layers of a network: XLA, or on a CPU C++ of ours with oneDNN.

The optional packages of the `cpu` extra bring oneDNN, which PyTorch uses too; our part
is compiled when first used. Nothing needs it: without it, on other devices and for more
than one device (a custom call cannot be cut over devices) everything is XLA's. On CPU
its convolutions are then matrix products where it is slow at them.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
from jaxtyping import Array

from byol_bnfree.errors import InputError
from byol_bnfree.models import native
from byol_bnfree.models.conv import (
    Convolution,
    onednn_conv_general_dilated,
    onednn_dot_general,
)
from byol_bnfree.models.normalize import normalize
from byol_bnfree.models.products import product_conv_general_dilated


class Kernels(NamedTuple):
    """Functions that layers call in place of XLA's operations; None is XLA."""

    convolution: Convolution | None = None
    """As `lax.conv_general_dilated`; with `standardized=True`, by `weight_standardize`
    of the kernel."""
    product: Callable[..., Array] | None = None
    """As `lax.dot_general`, with the same addition."""
    normalization: Callable[..., Any] | None = None
    """Called as `models.normalize.normalize`."""
    native: bool = False
    """They are ours in C++: kernels can be standardized by the call that multiplies,
    and gradients are as fast in a loop as outside."""
    words: str = "XLA"
    """What they are, for people."""


XLA = Kernels()
XLA_ON_CPU = Kernels(product_conv_general_dilated)
"""XLA's operations too, but products for the convolutions that it is slow at there."""


def choose_kernels(
    wanted: Literal["auto", "xla", "onednn"], num_devices: int
) -> Kernels:
    """What computes the layers of a program for `num_devices` devices.

    Args:
      wanted: "onednn" is ours in C++, with oneDNN; "auto" the same on one CPU device
        where it is installed, and XLA elsewhere.

    Raises:
      InputError: "onednn" where it is not installed, cannot be compiled or does not
        apply.
    """
    on_cpu = jax.default_backend() == "cpu"
    applies = on_cpu and num_devices == 1
    by_xla = XLA_ON_CPU if on_cpu else XLA
    if wanted == "onednn" and not applies:
        raise InputError(
            f"--run.convolution is onednn, but this run has {num_devices} devices of "
            f"type {jax.default_backend()}; it works on one CPU device only, use auto."
        )
    if wanted == "xla" or not applies:
        return by_xla
    problem = native.register()
    if problem is None:
        return Kernels(
            onednn_conv_general_dilated, onednn_dot_general, normalize, True, "oneDNN"
        )
    if wanted == "onednn":
        raise InputError(
            f"--run.convolution is onednn, but {problem}; use auto or xla."
        )
    return by_xla._replace(words=f"XLA; {problem}")
