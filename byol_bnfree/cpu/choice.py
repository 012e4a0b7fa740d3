"""Chooses the kernels of a program.

The `cpu` extra installs oneDNN, which PyTorch also uses. Our C++ is compiled on first
use. Both are optional: without them everything runs on XLA. Other devices use XLA too,
GPUs with the max-pool of `pooling`. So do several CPU devices, because XLA cannot split
a custom call over devices, and layers in bfloat16.
"""

from functools import partial
from typing import Literal

import jax

from byol_bnfree.cpu import deferred, moments, native, normalization
from byol_bnfree.cpu.convolution import conv, dense, std_conv, std_dense
from byol_bnfree.cpu.pooling import max_pool
from byol_bnfree.cpu.products import product_conv_general_dilated
from byol_bnfree.errors import InputError
from byol_bnfree.models.kernels import XLA, Kernels, by_standardized

XLA_ON_CPU = XLA._replace(
    conv=product_conv_general_dilated,
    std_conv=partial(by_standardized, product_conv_general_dilated),
    normalize=moments.normalize,
    max_pool=max_pool,
    slow_loops=True,
)
"""XLA on CPUs, with other forms for the operations that it computes slowly."""

XLA_ON_GPU = XLA._replace(max_pool=max_pool)
"""XLA's gradient of the max-pool is a scatter there. It adds overlapping windows in any
order, so a resumed run would differ in its last bits, and it keeps their indices."""

ONEDNN = Kernels(
    conv=conv,
    dense=dense,
    std_conv=std_conv,
    std_dense=std_dense,
    normalize=normalization.normalize,
    relu=deferred.relu,
    max_pool=max_pool,
    words="oneDNN",
)
"""Our C++ with oneDNN. Call `native.register` before using it."""


OF_XLA = {"cpu": XLA_ON_CPU, "gpu": XLA_ON_GPU}
"""The best form of each operation, by backend."""


def choose_kernels(
    wanted: Literal["auto", "xla", "onednn"], num_devices: int, dtype: str = "float32"
) -> Kernels:
    """Choose the kernels of a program for `num_devices` devices.

    Args:
      wanted: "onednn" takes our C++ with oneDNN. "auto" does so for float32 on one CPU
        device if oneDNN is installed, and takes XLA otherwise. "xla" takes XLA.
      num_devices: devices of the whole program.
      dtype: dtype of activations. Our C++ takes float32 only.

    Raises:
      InputError: if "onednn" is not installed, cannot be compiled, or cannot be used
        on these devices or with this dtype.
    """
    on_cpu = jax.default_backend() == "cpu"
    applies = on_cpu and num_devices == 1
    by_xla = OF_XLA.get(jax.default_backend(), XLA)
    if wanted == "onednn" and not applies:
        raise InputError(
            f"--run.convolution is onednn, but this run has {num_devices} devices of "
            f"type {jax.default_backend()}; it needs a single CPU device, so use auto."
        )
    if wanted == "onednn" and dtype != "float32":
        raise InputError(
            f"--run.convolution is onednn, but the layers of this run are {dtype}; it "
            f"computes float32 only, so use auto, or --compute-dtype=float32."
        )
    if wanted == "xla" or not applies or dtype != "float32":
        return by_xla
    # Not earlier: the first call on a machine compiles for seconds.
    problem = native.register()
    if problem is None:
        return ONEDNN
    if wanted == "onednn":
        raise InputError(
            f"--run.convolution is onednn, but {problem}; use auto or xla."
        )
    return by_xla._replace(words=f"XLA; {problem}")
