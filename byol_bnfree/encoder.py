"""Trained encoders in other people's code: `load_encoder(workdir)`."""

import dataclasses
import json
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from jaxtyping import Array, Float, UInt8

from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.interop.description import read_description, to_config
from byol_bnfree.interop.program import PROGRAM_SUFFIX, ProgramModule
from byol_bnfree.interop.trees import check_fit, flat, nested
from byol_bnfree.interop.weights import find, holds_weights, read_weights
from byol_bnfree.models.byol import BYOLNetwork, create_network
from byol_bnfree.models.kernels import XLA, Kernels
from byol_bnfree.own_code import changed_code
from byol_bnfree.represent import encoder_variables, network_input
from byol_bnfree.saved_config import config_from_dict
from byol_bnfree.training.items import ENCODERS
from byol_bnfree.training.program import DataShape, build_parts
from byol_bnfree.training.restore import load_items
from byol_bnfree.training.workdir import check_utf8


@dataclass(frozen=True, eq=False)
class Encoder:
    """A trained encoder; call it on images, or take the module and its variables.

    `jax.jit(encoder)` works; the weights are then constants of the program.
    """

    module: nn.Module
    """Linen: normalized images [b h w c] to representations [b d]."""
    variables: dict[str, Any]
    """{"params": ...} and, with BatchNorm, {"batch_stats": ...}."""
    config: TrainConfig
    step: int

    def __call__(
        self, images: UInt8[Array, "b h w c"] | Float[Array, "b h w c"]
    ) -> Float[Array, "b d"]:
        """Representations of uint8 images, or of floats in [0, 1]; inference mode.

        Images may have another size than those of the run.

        Raises:
          InputError: images of another type, range, shape or number of channels.
        """
        return self.module.apply(self.variables, self._pixels(images), False)

    def feature_maps(
        self, images: UInt8[Array, "b h w c"] | Float[Array, "b h w c"]
    ) -> tuple[tuple[Float[Array, "b _ _ _"], ...], Float[Array, "b d"]]:
        """The maps that leave every stage, largest first, and the representations."""
        pixels = self._pixels(images)
        maps = self.module.apply(self.variables, pixels, False, method="stages")
        return maps, self.module.pooled(maps[-1])

    def to_nnx(self) -> nnx.Module:
        """The module with its weights in NNX: normalized images to representations."""
        size, channels = self.config.data.image_size or 32, self.config.data.channels
        images = jnp.zeros((1, size, size, channels or 3))

        @nnx.jit  # one program; operation by operation a large network takes minutes
        def initialized() -> nnx.Module:
            return nnx.bridge.ToNNX(self.module, rngs=nnx.Rngs(0)).lazy_init(images)

        wrapped = initialized()
        state = nnx.state(wrapped)
        leaves = {
            k: v for tree in self.variables.values() for k, v in flat(tree).items()
        }
        nnx.replace_by_pure_dict(state, nested(leaves))
        nnx.update(wrapped, state)
        return wrapped

    def _pixels(self, images: Array) -> Float[Array, "b h w c"]:
        """Checked and normalized."""
        return network_input(images, self.config.augment, self.config.data.channels)


def load_encoder(
    workdir: str | Path,
    network: Literal["online", "target"] = "online",
    *,
    kernels: Kernels = XLA,
    encoder: nn.Module | None = None,
) -> Encoder:
    """The encoder of a run's newest intact checkpoint, or of a file of weights.

    Args:
      workdir: a run's folder, with config.json, dataset.json and checkpoints. Or a
        file: what `byol_bnfree.export` wrote, a released checkpoint of DeepMind, or a
        state dict of torchvision, timm, lightly or solo-learn (`interop.weights`).
      network: the papers evaluate the online network.
      kernels: of `cpu.choice.choose_kernels`; XLA is for any device.
      encoder: the module that was given to `train`, if one was.

    Raises:
      InputError: not a run's folder, or no checkpoint in it can be used; no file of
        weights, or not of an encoder that `create_encoder` can make.
    """
    workdir = Path(workdir)
    if holds_weights(workdir):
        return _from_weights(workdir, network, kernels)
    config, data = read_run(workdir)
    if encoder is None and (changed := changed_code(config.own_code, config)):
        warnings.warn(f"{changed}; the encoder may not be its own.", stacklevel=2)
    module = encoder_module(config, kernels, encoder)
    item = ENCODERS[network]
    found, step = load_items(workdir, {item: abstract_variables(module, data)})
    if item not in found:
        raise InputError(f"{workdir} holds no {network} encoder; load the other one.")
    return Encoder(module, found[item], config, step)


def _from_weights(
    path: Path, network: Literal["online", "target"], kernels: Kernels
) -> Encoder:
    file = find(path)
    if file.suffix == PROGRAM_SUFFIX:
        description = read_description(file.with_name("encoder.json"))
        config = to_config(description)
        inside = dataclasses.replace(config.augment, mean=(0, 0, 0), std=(1, 1, 1))
        config = dataclasses.replace(config, augment=inside)
        module = ProgramModule(file)
        return Encoder(module, module.identity, config, description["step"])
    found = read_weights(file, network)
    module, size = encoder_module(found.config, kernels), found.config.data.image_size
    shape = DataShape(1, None, (size, size, found.config.data.channels))
    wanted = abstract_variables(module, shape)
    check_fit(flat(found.variables), flat(wanted), str(file))
    return Encoder(
        module, jax.tree.map(jnp.asarray, found.variables), found.config, found.step
    )


def encoder_module(
    config: TrainConfig, kernels: Kernels = XLA, encoder: nn.Module | None = None
) -> nn.Module:
    """The encoder of a configuration, as it is trained; or the one given."""
    groups = config.bn_stat_groups // config.micro_batches or 1
    network = create_network(config, None, groups, kernels, encoder=encoder)
    return network.encoder


def abstract_variables(module: nn.Module, data: DataShape) -> dict[str, Any]:
    """Shapes of an encoder's variables, placed on the first device."""
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    images = jax.ShapeDtypeStruct((1, *data.image_shape), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)
    return jax.tree.map(lambda leaf: leaf.update(sharding=device), shapes)


def untrained_encoder(
    workdir: str | Path,
    images: UInt8[Array, "b h w c"],
    *,
    kernels: Kernels = XLA,
) -> Encoder:
    """The encoder a run started from: the floor beside its figures.

    BatchNorm's running statistics come from one pass over `images` (see
    `first_statistics`). With `--init=data_dependent` give the first batch, or it is not
    the run's own start.

    Raises:
      InputError: not a run's folder.
    """
    return untrained_like(*read_run(Path(workdir)), images, kernels=kernels)


def untrained_like(
    config: TrainConfig,
    data: DataShape,
    images: UInt8[Array, "b h w c"],
    *,
    kernels: Kernels = XLA,
) -> Encoder:
    """`untrained_encoder` of a configuration, without a run's folder."""
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
    """BatchNorm's running statistics of an untrained encoder, from whole images.

    Without such a pass an untrained encoder would not normalize at all, and not be the
    network that training starts from. All images are one batch.
    """
    own = network.encoder if network.own_encoder else None
    module = create_network(config, None, stat_groups=1, encoder=own).encoder
    train = partial(module.apply, train=True, mutable=["batch_stats"])
    pixels = network_input(images, config.augment)
    return jax.jit(train)(variables, pixels)[1]["batch_stats"]


def read_run(workdir: Path) -> tuple[TrainConfig, DataShape]:
    """Configuration and data of a run, from its folder; `InputError` if it is none."""
    check_utf8(workdir)
    try:
        saved = json.loads((workdir / "config.json").read_text())
        data = json.loads((workdir / "dataset.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{workdir} is not the work folder of a run ({error}); give the folder "
            f"that `python -m byol_bnfree.train` named in its first line."
        ) from error
    shape = DataShape(
        data["train"]["images"], data["num_classes"], tuple(data["image_shape"])
    )
    return config_from_dict(TrainConfig, saved), shape
