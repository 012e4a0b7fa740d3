"""BatchNorm as in vanilla BYOL: the one norm that uses batch statistics."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from byol_bnfree.errors import InputError
from byol_bnfree.models.affine import scale_and_bias
from byol_bnfree.models.kernels import XLA, with_moments

BN_DECAY = 0.9  # of the running statistics (DeepMind's configs/byol.py)


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
        scale, bias = scale_and_bias(self, x)
        channels = x.shape[-1]
        running = _Running.of(self, channels)
        if not train:
            moments = (jnp.expand_dims(m, range(x.ndim - 1)) for m in running.moments())
            return with_moments(x, *moments, scale, bias)
        images = _images_of_a_block(len(x), self.stat_groups, self.views)
        if images * math.prod(x.shape[1:-1]) == 1 and not self.is_initializing():
            raise InputError(
                f"each statistic of an array of shape {x.shape} has one value, and a "
                f"value minus itself is zero; give BatchNorm more images in training."
            )
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
      InputError: if the batch is empty or cannot be cut into equal groups.
    """
    if batch == 0:
        raise InputError(
            "the batch is empty, and BatchNorm has no statistics of no images; give at "
            "least one image."
        )
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
        """Return mean and variance, corrected for the start at zero."""
        return corrected(self.mean.value, self.var.value, self.count.value)


def corrected(
    mean: Float[Array, " c"], variance: Float[Array, " c"], count: Int[Array, ""]
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Return running mean and variance, corrected for their start at zero.

    After n updates the zeros still have the weight 0.9^n. Dividing by 1 - 0.9^n removes
    it. Before the first update this gives mean 0 and variance 1.
    """
    fresh = count == 0
    weight = jnp.where(fresh, 1.0, 1 - BN_DECAY ** count.astype(jnp.float32))
    return mean / weight, jnp.where(fresh, 1.0, variance / weight)
