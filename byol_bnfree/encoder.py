"""Trained encoders for use in your own code: `load_encoder(workdir)`."""

import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from jaxtyping import Array, Float, UInt8

from byol_bnfree.assembly import create_network, encoder_name
from byol_bnfree.config import TrainConfig, height_and_width
from byol_bnfree.errors import InputError
from byol_bnfree.files import expanded
from byol_bnfree.interop.description import read_description, to_config
from byol_bnfree.interop.facts import Facts, Padding
from byol_bnfree.interop.program import FIXED, PROGRAM_SUFFIX, ProgramModule
from byol_bnfree.interop.trees import check_fit, flat, nested
from byol_bnfree.interop.weights import check_holds, find, holds_weights, read_weights
from byol_bnfree.models.kernel_lengths import with_initial_lengths
from byol_bnfree.models.kernels import XLA, Kernels
from byol_bnfree.models.resnet import ResNet
from byol_bnfree.own_code import Executed, changed_code, model_code
from byol_bnfree.own_encoder import check_encoder
from byol_bnfree.represent import network_input
from byol_bnfree.settings.norms import part_norms
from byol_bnfree.settings.types import ImageSize
from byol_bnfree.training.items import ENCODERS
from byol_bnfree.training.parts import DataShape
from byol_bnfree.training.restore import load_items
from byol_bnfree.training.saved_run import read_run


@dataclass(frozen=True, eq=False)
class Encoder:
    """A trained encoder. Call it on images, or use its module and variables.

    `jax.jit(encoder)` works. The weights then become constants of the program. An
    encoder can be pickled, for example to be sent to worker processes. The pickle of an
    encoder of --model=FILE:FUNCTION executes FILE when it is read.
    """

    module: nn.Module
    """Linen module that maps normalized images [b h w c] to representations [b d]."""
    variables: dict[str, Any]
    """{"params": ...}, and with BatchNorm {"batch_stats": ...}; float32."""
    config: TrainConfig
    """All settings of the run. For weights without a run, those that they tell."""
    step: int
    """Optimizer steps that the weights were trained for."""

    def __reduce__(self) -> tuple:
        """Return what pickle needs. A user's file is executed before its classes."""
        own = Executed(self.config) if model_code(self.config) else None
        return _unpickled, (own, self.module, self.variables, self.config, self.step)

    def __repr__(self) -> str:
        """Return one line. The weights would fill pages."""
        network = f"{encoder_name(self.config)}, {part_norms(self.config)['encoder']}"
        ours = isinstance(self.module, ResNet | ProgramModule)
        if self.config.encoder is None and not ours:
            network = type(self.module).__name__  # whose norm is not known
        return (
            f"Encoder({network}, {self.config.dataset}, step {self.step}; "
            f"images [b h w c] to representations [b d])"
        )

    def __call__(
        self, images: UInt8[Array, "b h w c"] | Float[Array, "b h w c"]
    ) -> Float[Array, "b d"]:
        """Compute representations of uint8 images, or of floats in [0, 1].

        BatchNorm reads its running statistics. The images may differ in size from those
        of the run. Inside a compiled function the range of the values is not known, and
        not checked. A StableHLO program takes its own size only, and has neither
        `jax.vmap` nor a gradient.

        Raises:
          InputError: for another dtype, range, shape or number of channels.
        """
        features = self.module.apply(self.variables, self._pixels(images), False)
        return features.astype(jnp.float32)

    def feature_maps(
        self,
        images: UInt8[Array, "b h w c"] | Float[Array, "b h w c"],
        output_stride: int | None = None,
    ) -> tuple[tuple[Float[Array, "b _ _ _"], ...], Float[Array, "b d"]]:
        """Return the maps after every stage, largest first, and the representations.

        `output_stride` limits the total stride by dilation in the last stages; see
        `ResNet.with_output_stride`. Detectors and segmentation use 16 or 8.

        Raises:
          InputError: as a call, and for a stride that the network cannot have.
        """
        pixels = self._pixels(images)
        module = dense_module(self.module, output_stride)
        maps = module.apply(self.variables, pixels, False, method="stages")
        return maps, module.pooled(maps[-1])

    def with_initial_lengths(self) -> "Encoder":
        """Return the encoder with its kernels rescaled to their initial L2 norms.

        Use it before SGD fine-tunes an encoder that Muon trained: SGD changes the
        direction of shorter kernels faster. Representations stay the same, up to
        rounding and the epsilons of the norms. See `models.kernel_lengths`.

        Raises:
          InputError: if the outputs may depend on the L2 norms of the kernels.
        """
        variables = with_initial_lengths(self.module, self.variables)
        return dataclasses.replace(self, variables=variables)

    def to_nnx(self) -> nnx.Module:
        """Return the module in NNX with its weights. It takes normalized images.

        It holds no random state. A module with dropout takes `rngs` in a call.

        Raises:
          InputError: for the encoder of a StableHLO program.
        """
        if isinstance(self.module, ProgramModule):
            raise InputError(FIXED)
        height, width = height_and_width(self.config.data.image_size or 32)
        images = jnp.zeros((1, height, width, self.config.data.channels or 3))

        @nnx.jit  # as one program; without it a large network takes minutes
        def initialized() -> nnx.Module:
            wrapped = nnx.bridge.ToNNX(self.module, rngs=nnx.Rngs(0))
            return wrapped.lazy_init(images, False)

        wrapped = initialized()
        state = nnx.state(wrapped)
        leaves = {
            k: v for tree in self.variables.values() for k, v in flat(tree).items()
        }
        nnx.replace_by_pure_dict(state, nested(leaves))
        nnx.update(wrapped, state)
        # With the Rngs of its start every call would draw, which jax.jit refuses.
        wrapped.to_nnx__rngs = None
        return wrapped

    def _pixels(self, images: Array) -> Float[Array, "b h w c"]:
        """Check and normalize images."""
        return network_input(images, self.config.augment, self.config.data.channels)


def _unpickled(own: Any, *fields: Any) -> Encoder:
    del own  # by now the user's file was executed
    return Encoder(*fields)


def dense_module(module: nn.Module, output_stride: int | None) -> ResNet:
    """Return an encoder's module with a limited total stride, for dense tasks.

    Raises:
      InputError: if the module has no such strides, or cannot have this one.
    """
    if not hasattr(module, "with_output_stride"):
        raise InputError(
            f"the encoder is a {type(module).__name__}, whose strides are not known; "
            f"give a network of --model.name and its weights."
        )
    return module.with_output_stride(output_stride)


def load_encoder(
    workdir: str | Path,
    network: Literal["online", "target"] = "online",
    *,
    kernels: Kernels = XLA,
    encoder: nn.Module | None = None,
    padding: Padding | None = None,
    groups: int | None = None,
    standardized: bool | None = None,
    stem_stride: Literal[1, 2] | None = None,
    image_size: ImageSize | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Encoder:
    """Load the encoder of a run's newest intact checkpoint, or of a file of weights.

    Args:
      workdir: a run's folder, with config.json, dataset.json and checkpoints. Or a
        file of weights: an export of `byol_bnfree.export`, a checkpoint that DeepMind
        released, or a state dict of torchvision, timm, lightly or solo-learn
        (docs/interop.md).
      network: "online" or "target". BYOL's papers evaluate the online network.
      kernels: a result of `cpu.choice.choose_kernels`. XLA works on any device.
      encoder: the module that was passed to `train`, if there was one.
      padding, groups, standardized, stem_stride, image_size, mean, std: what a state
        dict of another program does not state. None: what that program usually has
        (docs/interop.md).

    Raises:
      InputError: if the folder is no run or has no usable checkpoint, the file has no
        weights of an encoder that `create_encoder` can build, or an argument does not
        belong to it. Also for an encoder of one's own that cannot be used on the images
        of the run.
    """
    if network not in ENCODERS:
        raise InputError(
            f"the network {network!r} is not known; give 'online' or 'target'."
        )
    if workdir == "":  # Python reads it as the present folder
        raise InputError("the path of the encoder is empty; give a folder or a file.")
    workdir = expanded(workdir)
    facts = Facts(padding, groups, standardized, stem_stride, image_size, mean, std)
    if holds_weights(workdir):
        if encoder is not None:
            raise InputError(
                f"{workdir} has weights of a known network; leave out encoder, which "
                f"belongs to work folders of runs."
            )
        return _from_weights(workdir, network, kernels, facts)
    facts.check_unneeded(workdir)
    config, data = read_run(workdir)
    if encoder is None and (changed := changed_code(config.own_code, config)):
        warnings.warn(f"{changed}; the encoder may differ from it.", stacklevel=2)
    module = encoder_module(config, kernels, encoder)
    if config.encoder is not None:  # a file may have changed
        check_encoder(module, data.image_shape, config.encoder)
    item = ENCODERS[network]
    found, step = load_items(workdir, {item: abstract_variables(module, data)})
    if item not in found:
        raise InputError(f"{workdir} holds no {network} encoder; load the other one.")
    return Encoder(module, found[item], config, step)


def _from_weights(
    path: Path, network: Literal["online", "target"], kernels: Kernels, facts: Facts
) -> Encoder:
    file = find(path)
    if file.suffix == PROGRAM_SUFFIX:
        facts.check_unneeded(file)
        description = read_description(file.with_name("encoder.json"))
        check_holds(file, description, network)
        config = to_config(description)
        # The program normalizes its input itself.
        inside = dataclasses.replace(config.augment, mean=(0, 0, 0), std=(1, 1, 1))
        config = dataclasses.replace(config, augment=inside)
        module = ProgramModule(file)
        return Encoder(module, module.identity, config, description["step"])
    found = read_weights(file, network, facts)
    module, data = encoder_module(found.config, kernels), found.config.data
    shape = DataShape(1, None, (*height_and_width(data.image_size), data.channels))
    wanted = abstract_variables(module, shape)
    check_fit(flat(found.variables), flat(wanted), str(file))
    return Encoder(
        module, jax.tree.map(jnp.asarray, found.variables), found.config, found.step
    )


def encoder_module(
    config: TrainConfig, kernels: Kernels = XLA, encoder: nn.Module | None = None
) -> nn.Module:
    """Return a configuration's encoder module, as in training, or the given one."""
    return create_network(config, None, kernels=kernels, encoder=encoder).encoder


def abstract_variables(module: nn.Module, data: DataShape) -> dict[str, Any]:
    """Return the shapes of an encoder's variables, placed on the first device."""
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    images = jax.ShapeDtypeStruct((1, *data.image_shape), jnp.float32)

    def init(images: Array) -> dict[str, Any]:
        # A user's encoder may have no default for its second argument, `train`.
        return module.init(jax.random.key(0), images, False)

    shapes = jax.eval_shape(init, images)
    return jax.tree.map(lambda leaf: leaf.update(sharding=device), shapes)
