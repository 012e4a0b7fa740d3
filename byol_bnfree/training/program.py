"""From a configuration to compiled functions: built once, pure, with shardings."""

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

from byol_bnfree.config import TrainConfig
from byol_bnfree.cpu.choice import choose_kernels
from byol_bnfree.data.augment import normalize
from byol_bnfree.errors import InputError
from byol_bnfree.models.byol import BYOLNetwork, create_network, part_norms
from byol_bnfree.models.data_dependent import data_dependent_init
from byol_bnfree.models.kernels import XLA, Kernels
from byol_bnfree.models.own import check_encoder
from byol_bnfree.objectives import make_objective
from byol_bnfree.training.footprint import Footprint, footprint
from byol_bnfree.training.gradient import Batch, make_views, step_key
from byol_bnfree.training.mesh import (
    batch_sharding,
    check_batch,
    check_state_fits,
    make_mesh,
    replicated,
    state_shardings,
)
from byol_bnfree.training.optim import (
    constant_predictor_rate,
    learning_rate_schedule,
    make_optimizer,
    peak_learning_rate,
    tau_schedule,
    total_steps,
    warmup_steps,
)
from byol_bnfree.training.state import TrainState, create_state
from byol_bnfree.training.step import (
    Metrics,
    Schedules,
    is_logged,
    make_train_step,
)


class DataShape(NamedTuple):
    """The sizes of the data that the program depends on."""

    num_examples: int
    num_classes: int | None
    image_shape: tuple[int, int, int]


class Program(NamedTuple):
    """The run as functions of arrays."""

    config: TrainConfig
    data: DataShape
    kernels: str
    """The library that computes the layers, in words."""
    network: BYOLNetwork
    mesh: Mesh
    warmup_steps: int
    total_steps: int
    abstract_state: Any
    """`ShapeDtypeStruct`s with shardings, for a restore."""
    init: Callable[[Batch], TrainState]
    """State of step 0; reads the batch only for --init=data_dependent."""
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    """Donates the state."""
    views: Callable[[Batch], tuple[Array, Array]]
    """The two views of step 0 in [0, 1], for a picture."""

    def compile_step(self, batch: Batch) -> Footprint | None:
        """Compile the step for batches like this one, so that its first call need not.

        In another thread, this overlaps with what a run does before its steps. Returns
        the memory that the step needs, where the backend tells.
        """
        like = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), batch
        )
        return footprint(self.step.lower(self.abstract_state, like).compile(), self)

    @property
    def processes(self) -> int:
        """Processes that run this program together."""
        return jax.process_count()

    def is_logged(self, step: int) -> bool:
        """Whether a row is written when `step` steps are done."""
        return is_logged(step, self.config.run.log_every, self.total_steps)


class Parts(NamedTuple):
    """A run as objects, before devices are involved."""

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
    """Network, optimizer, schedules and the shapes of the state.

    In training the network takes `views` of every image side by side. `encoder` takes
    the place of the configuration's.

    Raises:
      InputError: what cannot be built, such as a width that the groups do not divide,
        or a user's encoder that is none.
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
    schedules = Schedules(
        learning_rate_schedule(peak_learning_rate(config), warmup, total),
        tau_schedule(config.optim.tau_base, total, config.optim.tau_schedule),
    )
    optimizer = make_optimizer(
        config.optim, schedules.learning_rate, constant_predictor_rate(config)
    )
    views = views_of_step_0(config)

    def init(batch: Batch) -> TrainState:
        # The streams of keys for initialization and augmentation must not meet.
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
    """The parts of a configuration compiled for all devices.

    `encoder` takes the place of the configuration's.
    `unroll` as of `make_train_step`; None is what is fast here, False the program of
    accelerators.

    Raises:
      InputError: what cannot be built, a batch that the devices do not divide, or a
        state that cannot fit into their memory.
    """
    mesh = make_mesh(config.run.model_devices)
    check_batch(config, mesh)
    kernels = choose_kernels(config.run.convolution, mesh.size)
    unroll = kernels.slow_loops if unroll is None else unroll
    # A user's BatchNorm knows of no views: each is a batch of its own.
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
        kernels=kernels.words,
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
            donate_argnums=0,
        ),
        views=jax.jit(
            views_of_step_0(config),
            in_shardings=(on_data,),
            out_shardings=everywhere,
        ),
    )


def views_together(config: TrainConfig, unroll: bool) -> int:
    """Views of an image that pass through a network together, side by side.

    Both: half as many operations to compile, and one gradient of each parameter to add
    up over devices. But one after the other where BatchNorm is unrolled: XLA:CPU runs
    the reductions of two passes side by side, which makes up for much of their cost.
    """
    return 1 if unroll and "bn" in part_norms(config).values() else 2


def views_of_step_0(config: TrainConfig) -> Callable[[Batch], tuple[Array, Array]]:
    """The two views that step 0 draws of a batch, in [0, 1]."""
    plain = dataclasses.replace(config.augment, mean=(0, 0, 0), std=(1, 1, 1))

    def views(batch: Batch) -> tuple[Array, Array]:
        return make_views(step_key(config.seed, 0), batch, plain)

    return views


def _abstract_batch(config: TrainConfig, data: DataShape) -> dict:
    size = config.batch_size
    return {
        "image": jax.ShapeDtypeStruct((size, *data.image_shape), jnp.uint8),
        "label": jax.ShapeDtypeStruct((size,), jnp.int32),
        "position": jax.ShapeDtypeStruct((size,), jnp.int32),
    }
