"""The choice of the kernels of a program.

The optional packages of the `cpu` extra bring oneDNN, which PyTorch uses too; our part
is compiled when first used. Nothing needs it: without it, on other devices and for more
than one device (a custom call cannot be cut over devices) everything is XLA's.
"""

from typing import Literal

import jax

from byol_bnfree.cpu import deferred, moments, native, normalization
from byol_bnfree.cpu.convolution import conv, dense, std_conv, std_dense
from byol_bnfree.cpu.pooling import max_pool
from byol_bnfree.cpu.products import product_conv_general_dilated
from byol_bnfree.errors import InputError
from byol_bnfree.models.kernels import XLA, Kernels, standardized

XLA_ON_CPU = XLA._replace(
    conv=product_conv_general_dilated,
    std_conv=standardized(product_conv_general_dilated),
    normalize=moments.normalize,
    max_pool=max_pool,
    slow_loops=True,
)
"""XLA's operations too, in other forms where it is slow at a plain one."""

ONEDNN = Kernels(
    conv,
    dense,
    std_conv,
    std_dense,
    normalization.normalize,
    deferred.relu,
    max_pool,
    words="oneDNN",
)
"""Ours in C++, with oneDNN; to be used after `native.register`."""


def choose_kernels(
    wanted: Literal["auto", "xla", "onednn"], num_devices: int
) -> Kernels:
    """The kernels of a program for `num_devices` devices.

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
        return ONEDNN
    if wanted == "onednn":
        raise InputError(
            f"--run.convolution is onednn, but {problem}; use auto or xla."
        )
    return by_xla._replace(words=f"XLA; {problem}")
