"""From a configuration to compiled functions with shardings. All of them are pure."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array

from byol_bnfree.config import TrainConfig
from byol_bnfree.cpu.choice import choose_kernels
from byol_bnfree.data.view_settings import small_side
from byol_bnfree.data.views import Batch
from byol_bnfree.machine.precision import resolve_dtype
from byol_bnfree.models.byol import BYOLNetwork
from byol_bnfree.models.kernels import Kernels
from byol_bnfree.settings.norms import part_norms
from byol_bnfree.training.figures import PICTURES
from byol_bnfree.training.footprint import Footprint, footprint
from byol_bnfree.training.mesh import (
    batch_sharding,
    check_batch,
    check_state_fits,
    make_mesh,
    replicated,
    state_shardings,
)
from byol_bnfree.training.parts import DataShape, Parts, build_parts, views_of_step_0
from byol_bnfree.training.passes import most_together
from byol_bnfree.training.state import TrainState
from byol_bnfree.training.step import (
    Metrics,
    StepOutputs,
    collapse_metrics,
    make_train_step,
)


class Seeded(NamedTuple):
    """A compiled function of arrays and of the run's seed.

    The key of the seed is an argument of the program, so all seeds share one program in
    the compilation cache. Callers do not pass it.
    """

    function: Any
    """From `jax.jit`; or its lowered or compiled form."""
    key: Array
    """Data of the key, uint32 [n], on all devices."""

    @staticmethod
    def of(
        function: Callable[..., Any],
        seed: int,
        mesh: Mesh,
        in_shardings: tuple[Any, ...],
        **options: Any,
    ) -> "Seeded":
        """Compile `function(*arrays, key)`."""
        data = np.asarray(jax.random.key_data(jax.random.key(seed)))
        everywhere = replicated(mesh)

        @partial(jax.jit, in_shardings=(*in_shardings, everywhere), **options)
        @wraps(function)
        def keyed(*arguments):
            *arrays, key = arguments
            return function(*arrays, jax.random.wrap_key_data(key))

        key = jax.make_array_from_callback(data.shape, everywhere, data.__getitem__)
        return Seeded(keyed, key)

    def __call__(self, *arrays: Any) -> Any:
        return self.function(*arrays, self.key)

    def lower(self, *arrays: Any) -> "Seeded":
        """Act as the method of `jax.jit`."""
        return self._replace(function=self.function.lower(*arrays, self.key))

    def compile(self) -> "Seeded":
        """Act as the method of a lowered function."""
        return self._replace(function=self.function.compile())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)


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
    untrained: Callable[[Batch], TrainState]
    """Acts as `init`, but never has the weights of --init-from."""
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics, StepOutputs]]
    """Takes one step. It donates the state."""
    collapse: Callable[[StepOutputs], Metrics]
    """Returns the collapse measures of a step's outputs."""
    views: Callable[[Batch], tuple[Array, ...]]
    """Returns the views of step 0 of the first `PICTURES` images, in [0, 1]."""

    def compile_step(self, batch: Batch) -> Footprint | None:
        """Compile `step` and `collapse` for batches of this shape, before their call.

        Called in another thread, it overlaps with the preparation of the run. It
        returns the memory that the step needs, if the backend reports it.
        """
        like = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), batch
        )
        lowered = self.step.lower(self.abstract_state, like)
        *_, outputs = lowered.out_info
        self.collapse.lower(outputs).compile()
        return footprint(lowered.compile(), self)

    @property
    def processes(self) -> int:
        """Number of processes that run this program together."""
        return jax.process_count()

    def is_logged(self, step: int) -> bool:
        """Return True if a row is written after `step` steps."""
        every = self.config.run.log_every
        return step % every == 0 or step in (1, self.total_steps)


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
    mesh, kernels = devices_and_kernels(config)
    unroll = kernels.slow_loops if unroll is None else unroll
    together = views_together(config, unroll)
    parts = build_parts(config, data, kernels, together, encoder)
    step = make_train_step(
        parts.network,
        parts.optimizer,
        parts.schedules,
        config,
        data_devices=mesh.shape["data"],
        unroll=unroll,
    )
    return _on_devices(config, data, parts, step, mesh, kernels.words)


def devices_and_kernels(config: TrainConfig) -> tuple[Mesh, Kernels]:
    """Arrange the devices of a run, and choose the kernels for them.

    Raises:
      InputError: if the devices do not divide the batch, or the kernels cannot be used.
    """
    mesh = make_mesh(config.run.model_devices)
    check_batch(config, mesh)
    dtype = resolve_dtype(config.compute_dtype)
    return mesh, choose_kernels(config.run.convolution, mesh.size, dtype)


def _on_devices(
    config: TrainConfig,
    data: DataShape,
    parts: Parts,
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics, StepOutputs]],
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
    # A state that cannot fit is refused here, before anything is compiled.
    check_state_fits(abstract_state, view_bytes(config, data), mesh)
    on_data, everywhere = batch_sharding(mesh), replicated(mesh)
    seeded = partial(Seeded.of, seed=config.seed, mesh=mesh)
    init = seeded(parts.init, in_shardings=(on_data,), out_shardings=shardings)
    return Program(
        config=config,
        data=data,
        kernels=kernels,
        network=parts.network,
        mesh=mesh,
        warmup_steps=parts.warmup_steps,
        total_steps=parts.total_steps,
        abstract_state=abstract_state,
        init=init,
        untrained=init,
        step=seeded(
            step,
            in_shardings=(shardings, on_data),
            out_shardings=(shardings, everywhere, on_data),
            donate_argnums=0,  # the new state takes the memory of the old one
        ),
        collapse=jax.jit(
            collapse_metrics, in_shardings=(on_data,), out_shardings=everywhere
        ),
        views=seeded(
            _first_views(config), in_shardings=(on_data,), out_shardings=everywhere
        ),
    )


def _first_views(config: TrainConfig) -> Callable[..., tuple[Array, ...]]:
    views = views_of_step_0(config)

    def first(batch: Batch, key: Array) -> tuple[Array, ...]:
        # Cut first: the views of a large batch would not fit on every device.
        return views(jax.tree.map(lambda x: x[:PICTURES], batch), key)

    return first


def view_bytes(config: TrainConfig, data: DataShape) -> int:
    """Return the bytes of all views of a (micro-)batch, which are drawn in float32."""
    height, width, channels = data.image_shape
    views = config.views
    small = small_side(height, views) * small_side(width, views)
    pixels = views.count * height * width + views.small * small
    return 4 * pixels * channels * config.batch_size // config.micro_batches


def views_together(config: TrainConfig, unroll: bool) -> int:
    """Return how many views of an image pass through a network side by side.

    All large views do, as a rule. That makes fewer operations to compile, and each
    parameter then has one gradient to add up over devices. Views pass one after the
    other where `most_together` is 1, and with BatchNorm in an unrolled program: XLA on
    CPUs runs the reductions of two passes in parallel.
    """
    apart = unroll and "bn" in part_norms(config).values()
    return 1 if apart else most_together(config)
