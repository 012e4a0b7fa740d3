"""From a configuration to the parts of a run, before devices are chosen."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array

from byol_bnfree.assembly import create_network
from byol_bnfree.config import TrainConfig
from byol_bnfree.data.augment import normalized
from byol_bnfree.data.view_settings import small_side
from byol_bnfree.data.views import Batch, all_views
from byol_bnfree.errors import InputError
from byol_bnfree.models.byol import BYOLNetwork
from byol_bnfree.models.kernels import XLA, Kernels
from byol_bnfree.objectives import make_objective
from byol_bnfree.own_encoder import check_encoder
from byol_bnfree.settings.types import check_kind, is_count
from byol_bnfree.settings.view_checks import check_small_size
from byol_bnfree.training.data_dependent import data_dependent_init
from byol_bnfree.training.extension import predictor_rate_of, schedules_of
from byol_bnfree.training.gradient import step_key
from byol_bnfree.training.optim import make_optimizer
from byol_bnfree.training.passes import check_arrays, check_together
from byol_bnfree.training.schedules import total_steps, warmup_steps
from byol_bnfree.training.state import TrainState, create_state
from byol_bnfree.training.step import Schedules


class DataShape(NamedTuple):
    """The properties of the data that the program depends on."""

    num_examples: int
    """Images of an epoch. Schedules in epochs depend on it."""
    num_classes: int | None
    """Classes of the linear probe; None or 1: no probe."""
    image_shape: tuple[int, int, int]
    """Height, width and channels."""

    @property
    def probe_classes(self) -> int | None:
        """Outputs of the probe. A probe of one class would always be right."""
        return self.num_classes if (self.num_classes or 0) > 1 else None

    def wrong(self) -> tuple[str, str] | None:
        """Return what no data can have, and what is allowed; None if all is right."""
        images, classes, sides = self
        if not is_count(images):
            return f"num_examples is {images!r}", "a positive whole number"
        if not (classes in (None, 0) or is_count(classes)):
            allowed = "a whole number, or None for no classes"
            return f"num_classes is {classes!r}", allowed
        if len(sides) != 3 or not all(map(is_count, sides)):
            return f"image_shape is {sides}", "(height, width, channels)"
        return None


class Parts(NamedTuple):
    """The objects of a run, before devices are chosen."""

    network: BYOLNetwork
    optimizer: optax.GradientTransformation
    schedules: Schedules
    warmup_steps: int
    total_steps: int
    init: Callable[[Batch], TrainState]
    abstract_state: Any


def build_parts(
    config: TrainConfig,
    data: DataShape,
    kernels: Kernels = XLA,
    views: int = 1,
    encoder: nn.Module | None = None,
) -> Parts:
    """Build network, optimizer, schedules and the shapes of the state.

    Args:
      config: the settings of the run. Rate and schedules are those of batches of
        `config.batch_size` images.
      data: the properties of the data.
      kernels: the functions that compute the layers.
      views: views of each image that pass through the network together in training: 1
        or `config.views.count`, and 1 with small views or `config.views.accumulate`.
      encoder: a module that replaces the configuration's encoder.

    Returns:
      A named tuple of `network` (`BYOLNetwork`), `optimizer`, `schedules`
      (`Schedules`), `warmup_steps`, `total_steps`, `init` and `abstract_state`.
      `init(batch)` returns the `TrainState` of step 0. It refuses a batch that no step
      takes. `abstract_state` is the same tree, of `ShapeDtypeStruct`.

    Raises:
      InputError: if the images have no height, width and channels, or examples and
        classes are no counts; if `views` is another number; if the settings do not
        fit each other, such as a width that the groups do not divide, or small views
        larger than the images; or if a user's encoder cannot be used.
    """
    check_kind(config, TrainConfig, "config", "a TrainConfig, such as TrainConfig()")
    check_kind(data, DataShape, "data", "a DataShape")
    _check_data(data)
    check_together(views, config)
    network = create_network(
        config, data.probe_classes, kernels=kernels, views=views, encoder=encoder
    )
    _check_images(config, data, network)
    total = total_steps(config, data.num_examples)
    warmup = warmup_steps(config, data.num_examples)
    schedules = schedules_of(config, data.num_examples)
    optimizer = make_optimizer(
        config.optim, schedules.learning_rate, predictor_rate_of(config)
    )
    init = _make_init(config, data, optimizer, encoder)
    batch = abstract_batch(config, data)
    # Finds views that these images cannot have, before any picture is read.
    jax.eval_shape(views_of_step_0(config), batch, jax.random.key(config.seed))
    abstract = jax.eval_shape(init, batch)
    _check_own_statistics(config, network, abstract)
    return Parts(network, optimizer, schedules, warmup, total, init, abstract)


def _check_data(data: DataShape) -> None:
    if wrong := data.wrong():
        given, allowed = wrong
        raise InputError(f"{given}; give {allowed}.")


def _make_init(
    config: TrainConfig,
    data: DataShape,
    optimizer: optax.GradientTransformation,
    encoder: nn.Module | None,
) -> Callable[[Batch], TrainState]:
    """Return the function from the first batch to the state of step 0."""
    views = views_of_step_0(config)
    data_dependent = config.init == "data_dependent"

    def init(batch: Batch, key: Array | None = None) -> TrainState:
        """Return the state of step 0. `key` replaces that of the seed."""
        check_arrays(batch)
        _check_channels(batch, data)
        key = jax.random.key(config.seed) if key is None else key
        # 2**32 - 1 is no step, so these keys differ from all keys of augmentation.
        own = step_key(key, 2**32 - 1)
        # Few images are enough: our layers see only their shape. One group, because few
        # images cannot be cut into many.
        fresh = create_network(
            config, data.probe_classes, stat_groups=1, encoder=encoder
        )
        if data_dependent or fresh.own_encoder:  # whose layers may read the images
            images = normalized(views(batch, key)[0], config.augment)
        else:
            images = jnp.zeros((2, *_image_shape(batch)))
        variables = fresh.init(own, images[:2], config.target_init)
        if data_dependent:
            variables = data_dependent_init(config, variables, images, encoder)
        return create_state(variables, optimizer, first_memory(config, own))

    return init


def _image_shape(batch: Batch) -> tuple[int, ...]:
    return batch["image" if "image" in batch else "crops"].shape[-3:]


def _check_channels(batch: Batch, data: DataShape) -> None:
    """Raise `InputError` for images of other channels than the encoder is built for."""
    found, wanted = _image_shape(batch)[-1], data.image_shape[-1]
    if found != wanted:
        raise InputError(
            f"the batch has images of {found} channel{'s' * (found > 1)}, but the "
            f"image_shape of the DataShape is {data.image_shape}; give images of "
            f"{wanted}, or another DataShape."
        )


def _check_images(config: TrainConfig, data: DataShape, network: BYOLNetwork) -> None:
    """Raise `InputError` for images that views, encoder or objective cannot have."""
    height, width, channels = data.image_shape
    check_small_size(config.views.small_size, height, width)
    if network.own_encoder:
        small = None
        if config.views.small:
            small = (*(small_side(s, config.views) for s in (height, width)), channels)
        check_encoder(
            network.encoder, data.image_shape, config.encoder or "encoder", small
        )
    if config.objective == "rotation" and height != width:
        raise InputError(
            f"--objective rotation needs square images, but these are "
            f"{height}x{width}; set --data.image-size."
        )


def first_memory(config: TrainConfig, key: Array) -> dict[str, Array]:
    """The objective's memory of step 0; {} for objectives that remember nothing."""
    first = make_objective(config).first_memory
    if first is None:
        return {}
    return first(jax.random.fold_in(key, 2**32 - 1), config.model.projector.out)


def _check_own_statistics(config: TrainConfig, network: BYOLNetwork, state) -> None:
    if not network.own_encoder or "encoder" not in state.online_stats:
        # The network of `init` takes one view and one group; shapes do not depend on
        # it.
        return
    if config.micro_batches > 1:
        raise InputError(
            f"--micro-batches {config.micro_batches} would change the batch statistics "
            f"of model {config.encoder or 'encoder'}; set it to 1, or use an encoder "
            f"without them."
        )


def views_of_step_0(
    config: TrainConfig,
) -> Callable[[Batch, Array], tuple[Array, ...]]:
    """Return the function (batch, key) -> the views of step 0, with values in [0, 1].

    Large views come first. `key` is that of the seed.
    """
    plain = dataclasses.replace(config.augment, mean=(0, 0, 0), std=(1, 1, 1))

    def views(batch: Batch, key: Array) -> tuple[Array, ...]:
        drawn = all_views(step_key(key, 0), batch, plain, config.views)
        return drawn.large + drawn.small

    return views


def abstract_batch(
    config: TrainConfig, data: DataShape
) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of a batch of a source that is held in memory."""
    size = config.batch_size
    return {
        "image": jax.ShapeDtypeStruct((size, *data.image_shape), jnp.uint8),
        "label": jax.ShapeDtypeStruct((size,), jnp.int32),
        "position": jax.ShapeDtypeStruct((size,), jnp.int32),
    }
