"""From a configuration to compiled functions with shardings. All of them are pure."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array

from byol_bnfree.assembly import create_network, part_norms
from byol_bnfree.config import TrainConfig
from byol_bnfree.cpu.choice import choose_kernels
from byol_bnfree.data.augment import normalize
from byol_bnfree.data.several_views import all_views
from byol_bnfree.errors import InputError
from byol_bnfree.models.byol import BYOLNetwork
from byol_bnfree.models.kernels import XLA, Kernels
from byol_bnfree.objectives import make_objective
from byol_bnfree.own_encoder import check_encoder
from byol_bnfree.training.data_dependent import data_dependent_init
from byol_bnfree.training.extension import schedules_of
from byol_bnfree.training.footprint import Footprint, footprint
from byol_bnfree.training.gradient import make_views, step_key
from byol_bnfree.training.mesh import (
    batch_sharding,
    check_batch,
    check_state_fits,
    make_mesh,
    replicated,
    state_shardings,
)
from byol_bnfree.training.optim import constant_predictor_rate, make_optimizer
from byol_bnfree.training.passes import Batch
from byol_bnfree.training.schedules import total_steps, warmup_steps
from byol_bnfree.training.state import TrainState, create_state
from byol_bnfree.training.step import (
    Metrics,
    Schedules,
    is_logged,
    make_train_step,
)


class DataShape(NamedTuple):
    """The properties of the data that the program depends on."""

    num_examples: int
    num_classes: int | None
    image_shape: tuple[int, int, int]


class Program(NamedTuple):
    """A run as compiled functions of arrays."""

    config: TrainConfig
    data: DataShape
    kernels: str
    """Name of the library that computes the layers."""
    network: BYOLNetwork
    mesh: Mesh
    warmup_steps: int
    total_steps: int
    abstract_state: Any
    """A tree of `ShapeDtypeStruct` with shardings; restoring needs it."""
    init: Callable[[Batch], TrainState]
    """Returns the state of step 0.

    It reads the batch for --init=data_dependent only.
    """
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    """Takes one step. It donates the state."""
    views: Callable[[Batch], tuple[Array, ...]]
    """Returns the views of step 0 in [0, 1], for a picture."""

    def compile_step(self, batch: Batch) -> Footprint | None:
        """Compile the step for batches of this shape, before its first call.

        Called in another thread, it overlaps with the preparation of the run. It
        returns the memory that the step needs, if the backend reports it.
        """
        like = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), batch
        )
        return footprint(self.step.lower(self.abstract_state, like).compile(), self)

    @property
    def processes(self) -> int:
        """Number of processes that run this program together."""
        return jax.process_count()

    def is_logged(self, step: int) -> bool:
        """Return True if a row is written after `step` steps."""
        return is_logged(step, self.config.run.log_every, self.total_steps)


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
      config: the settings of the run.
      data: the properties of the data.
      kernels: the functions that compute the layers.
      views: views of each image that pass through the network together in training.
      encoder: a module that replaces the configuration's encoder.

    Raises:
      InputError: if the settings do not fit each other, such as a width that the groups
        do not divide, or if a user's encoder cannot be used.
    """
    classes = data.num_classes if (data.num_classes or 0) > 1 else None
    network = create_network(
        config,
        classes,  # a probe of one class would always be right
        config.bn_stat_groups // config.micro_batches or 1,
        kernels,
        views,
        encoder,
    )
    if network.own_encoder:
        check_encoder(network.encoder, data.image_shape, config.encoder or "encoder")
    _check_square(config, data)
    total = total_steps(config, data.num_examples)
    warmup = warmup_steps(config, data.num_examples)
    schedules = schedules_of(config, data.num_examples)
    optimizer = make_optimizer(
        config.optim, schedules.learning_rate, constant_predictor_rate(config)
    )
    views = views_of_step_0(config)

    def init(batch: Batch) -> TrainState:
        # 2**32 - 1 is no step, so these keys differ from all keys of augmentation.
        key = jax.random.fold_in(jax.random.key(config.seed), 2**32 - 1)
        images = normalize(views(batch)[0], config.augment)
        fresh = create_network(config, classes, stat_groups=1, encoder=encoder)
        variables = fresh.init(key, images[:2], config.target_init)
        if config.init == "data_dependent":
            variables = data_dependent_init(config, variables, images)
        return create_state(variables, optimizer, first_memory(config, key))

    abstract = jax.eval_shape(init, _abstract_batch(config, data))
    _check_own_statistics(config, network, abstract)
    return Parts(network, optimizer, schedules, warmup, total, init, abstract)


def _check_square(config: TrainConfig, data: DataShape) -> None:
    height, width, _ = data.image_shape
    if config.objective == "rotation" and height != width:
        raise InputError(
            f"--objective rotation turns squares, and the images are {height}x{width}; "
            f"set --data.image-size."
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
            f"of model {config.encoder}; set it to 1, or use an encoder without them."
        )


def build_program(
    config: TrainConfig,
    data: DataShape,
    unroll: bool | None = None,
    encoder: nn.Module | None = None,
) -> Program:
    """Build a configuration's parts and compile them for all devices.

    `unroll` is an argument of `make_train_step`. None chooses the fast variant for this
    machine; False gives the program that accelerators run. `encoder` replaces the
    configuration's encoder.

    Raises:
      InputError: if the settings do not fit each other, the devices do not divide the
        batch, or the state does not fit into their memory.
    """
    mesh = make_mesh(config.run.model_devices)
    check_batch(config, mesh)
    kernels = choose_kernels(config.run.convolution, mesh.size)
    unroll = kernels.slow_loops if unroll is None else unroll
    # A user's BatchNorm does not know about views, so each view is a batch of its own.
    together = 1 if encoder is not None else views_together(config, unroll)
    parts = build_parts(config, data, kernels, together, encoder)
    step = make_train_step(
        parts.network,
        parts.optimizer,
        parts.schedules,
        config,
        data_devices=mesh.shape["data"],
        total_steps=parts.total_steps,
        unroll=unroll,
    )
    return _on_devices(config, data, parts, step, mesh, kernels.words)


def _on_devices(
    config: TrainConfig,
    data: DataShape,
    parts: Parts,
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    mesh: Mesh,
    kernels: str,
) -> Program:
    """Place state and batches on the devices, and jit the functions accordingly."""
    shardings = state_shardings(parts.abstract_state, mesh, config.shard_state)
    abstract_state = jax.tree.map(
        lambda leaf, sharding: leaf.update(sharding=sharding),
        parts.abstract_state,
        shardings,
    )
    image_bytes = config.batch_size * math.prod(data.image_shape)
    check_state_fits(abstract_state, image_bytes, mesh)
    on_data, everywhere = batch_sharding(mesh), replicated(mesh)
    return Program(
        config=config,
        data=data,
        kernels=kernels,
        network=parts.network,
        mesh=mesh,
        warmup_steps=parts.warmup_steps,
        total_steps=parts.total_steps,
        abstract_state=abstract_state,
        init=jax.jit(parts.init, in_shardings=(on_data,), out_shardings=shardings),
        step=jax.jit(
            step,
            in_shardings=(shardings, on_data),
            out_shardings=(shardings, everywhere),
            donate_argnums=0,  # the new state takes the memory of the old one
        ),
        views=jax.jit(
            views_of_step_0(config),
            in_shardings=(on_data,),
            out_shardings=everywhere,
        ),
    )


def views_together(config: TrainConfig, unroll: bool) -> int:
    """Return how many views of an image pass through a network side by side.

    All large views do, as a rule. That makes fewer operations to compile, and each
    parameter then has one gradient to add up over devices. Views pass one after the
    other in three cases. With BatchNorm in an unrolled program, XLA on CPUs runs the
    reductions of two passes in parallel. With `views.accumulate`, memory must not grow
    with their number. Small views cannot stand in one array with large ones.
    """
    views = config.views
    apart = unroll and "bn" in part_norms(config).values()
    return 1 if apart or views.accumulate or views.small else views.count


def views_of_step_0(config: TrainConfig) -> Callable[[Batch], tuple[Array, ...]]:
    """Return a function that draws the views of step 0, with values in [0, 1].

    Large views come first.
    """
    plain = dataclasses.replace(config.augment, mean=(0, 0, 0), std=(1, 1, 1))

    def views(batch: Batch) -> tuple[Array, ...]:
        key = step_key(config.seed, 0)
        if config.views.plain:
            return make_views(key, batch, plain)
        drawn = all_views(key, batch, plain, config.views)
        return drawn.large + drawn.small

    return views


def _abstract_batch(config: TrainConfig, data: DataShape) -> dict:
    size = config.batch_size
    return {
        "image": jax.ShapeDtypeStruct((size, *data.image_shape), jnp.uint8),
        "label": jax.ShapeDtypeStruct((size,), jnp.int32),
        "position": jax.ShapeDtypeStruct((size,), jnp.int32),
    }
