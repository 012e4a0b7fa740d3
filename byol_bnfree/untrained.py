"""Untrained encoders, the baseline of every evaluation."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt8

from byol_bnfree.assembly import create_network
from byol_bnfree.config import TrainConfig
from byol_bnfree.encoder import Encoder
from byol_bnfree.files import expanded
from byol_bnfree.models.byol import BYOLNetwork
from byol_bnfree.models.kernels import XLA, Kernels
from byol_bnfree.represent import encoder_variables, network_input
from byol_bnfree.training.parts import DataShape, build_parts
from byol_bnfree.training.saved_run import read_run


def untrained_encoder(
    workdir: str | Path,
    images: UInt8[Array, "b h w c"],
    *,
    kernels: Kernels = XLA,
) -> Encoder:
    """Return the encoder that a run started from, as a baseline for its results.

    BatchNorm's running statistics come from one pass over `images` (see
    `first_statistics`). With `--init=data_dependent` pass the first batch; other images
    give another initialization than the run's.

    Raises:
      InputError: if the folder is no run.
    """
    return untrained_like(*read_run(expanded(workdir)), images, kernels=kernels)


def untrained_like(
    config: TrainConfig,
    data: DataShape,
    images: UInt8[Array, "b h w c"],
    *,
    kernels: Kernels = XLA,
) -> Encoder:
    """Return `untrained_encoder` of a configuration, without a run's folder."""
    parts = build_parts(config, data, kernels)
    rows = jnp.arange(len(images))
    batch = {"image": jnp.asarray(images), "label": 0 * rows, "position": rows}
    state, module = jax.jit(parts.init)(batch), parts.network.encoder
    variables = encoder_variables(state.online_params, state.online_stats)
    if "batch_stats" in variables:
        variables["batch_stats"] = first_statistics(
            parts.network, config, variables, images
        )
    return Encoder(module, variables, config, 0)


def first_statistics(
    network: BYOLNetwork,
    config: TrainConfig,
    variables: dict[str, Any],
    images: UInt8[Array, "b h w c"],
) -> dict[str, Any]:
    """Compute BatchNorm's running statistics for an untrained encoder.

    All images form one batch and are used whole. Without this pass an untrained encoder
    would not normalize, unlike the network that training starts from.
    """
    own = network.encoder if network.own_encoder else None
    module = create_network(config, None, stat_groups=1, encoder=own).encoder

    @jax.jit
    def after(images: Array) -> dict[str, Any]:
        return module.apply(variables, images, True, mutable=["batch_stats"])[1]

    return after(network_input(images, config.augment))["batch_stats"]
