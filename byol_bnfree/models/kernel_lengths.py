"""Gives the kernels of a trained network their initial lengths again.

Muon makes kernels longer. Where the length of a kernel changes nothing in what the
network computes, it still divides the rate of SGD: a kernel that is n times as long
turns n^2 times more slowly (arXiv 1706.05350, section 2). So a long kernel hardly moves
in fine-tuning, while scales, biases and the head move at the full rate.

The length of a kernel is free in two cases: its layer standardizes it, or a norm
follows the convolution directly. In the second case the running statistics of BatchNorm
must shrink with the kernel.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from byol_bnfree.errors import InputError
from byol_bnfree.models.affine import Affine
from byol_bnfree.models.architectures import Architecture
from byol_bnfree.models.batch_norm import BatchNorm
from byol_bnfree.models.initializers import TRUNCATED
from byol_bnfree.models.norm import GroupNorm
from byol_bnfree.models.resnet import ResNet
from byol_bnfree.models.standardized_layers import StdConv


class Kernel(NamedTuple):
    """A kernel whose length is free."""

    path: tuple[str, ...]
    value: Array
    norm: tuple[str, ...] | None
    """Path of the norm that cancels its length; None if its layer does."""

    def growth(self) -> float:
        """Return its length divided by the expected length at initialization."""
        # Each of the c output units starts with the expected squared length sigma^2.
        initial = TRUNCATED * math.sqrt(self.value.shape[-1])
        return float(jnp.linalg.norm(self.value.ravel())) / initial


def with_initial_lengths(
    module: nn.Module, variables: dict[str, Any]
) -> dict[str, Any]:
    """Return the variables with free kernels at their expected initial lengths.

    The outputs stay as they are, up to the epsilons of norms and standardization.
    Kernels whose length matters keep it, and so do kernels of zeros.

    Raises:
      InputError: if the module is no `ResNet`, or no kernel of it has a free length.
    """
    params = flatten_dict(variables["params"])
    stats = flatten_dict(variables.get("batch_stats", {}))
    for kernel in free_kernels(module, variables):
        growth = kernel.growth()
        if growth == 0:
            continue
        params[*kernel.path, "kernel"] = kernel.value / growth
        if kernel.norm is not None and (*kernel.norm, "mean") in stats:
            stats[*kernel.norm, "mean"] /= growth
            stats[*kernel.norm, "var"] /= growth**2
    found = {"params": unflatten_dict(params)}
    return variables | found | ({"batch_stats": unflatten_dict(stats)} if stats else {})


def median_growth(module: nn.Module, variables: dict[str, Any]) -> float:
    """Return the median of length / initial length over the free kernels.

    Raises:
      InputError: as `with_initial_lengths`.
    """
    kernels = free_kernels(module, variables)
    return float(np.median([kernel.growth() for kernel in kernels]))


def free_kernels(module: nn.Module, variables: dict[str, Any]) -> list[Kernel]:
    """List the kernels of convolutions whose length changes no output.

    Raises:
      InputError: as `with_initial_lengths`.
    """
    if not _known(module):
        raise InputError(
            f"the encoder is a {type(module).__name__} with layers of its own, in "
            f"which it is not known where the length of a kernel matters; give a "
            f"network of --model.name."
        )
    found = list(_free(module, variables))
    if not found:
        raise InputError(
            "the length of every kernel matters in this encoder, because no norm with "
            "statistics follows its convolutions; leave the kernels as they are."
        )
    return found


def _known(module: nn.Module) -> bool:
    """True for a `ResNet` of the layers of `layers_for`. A subclass may add layers."""
    if type(module) is not ResNet:
        return False
    conv, norm = (
        getattr(layer, "func", layer)
        for layer in (module.layers.conv, module.layers.norm)
    )
    return conv in (nn.Conv, StdConv) and norm in (BatchNorm, GroupNorm, Affine)


def _free(module: ResNet, variables: dict[str, Any]) -> Iterator[Kernel]:
    standardized = getattr(module.layers.conv, "func", None) is StdConv
    normalized = module.layers.norm is not Affine
    stats = flatten_dict(variables.get("batch_stats", {}))
    for (*place, name, leaf), value in flatten_dict(variables["params"]).items():
        if leaf != "kernel":
            continue
        norm = *place, _following_norm(name, module.architecture, bool(place))
        # Before its first update a BatchNorm in inference mode does not normalize.
        followed = norm[-1] is not None and stats.get((*norm, "count"), 1) > 0
        if standardized:
            yield Kernel((*place, name), value, None)
        elif normalized and followed:
            yield Kernel((*place, name), value, norm)


def _following_norm(conv: str, network: Architecture, in_block: bool) -> str | None:
    """Name the norm that a convolution's output goes to; None if that is a sum."""
    if conv == "shortcut_conv":
        return None if network.preactivation else "shortcut_norm"
    number = int(conv.removeprefix("conv"))
    if not network.preactivation:
        return f"norm{number}"
    last = 3 if network.bottleneck else 2
    return f"norm{number + 1}" if in_block and number < last else None
