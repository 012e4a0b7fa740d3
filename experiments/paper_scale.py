"""The paper's size, where it cannot be run: every arm's step built and lowered.

On abstract shapes: nothing is allocated. What is lowered is the program of an
accelerator, in which micro-batches are a loop.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from byol_bnfree.command_line import parse_args
from byol_bnfree.training.program import DataShape, build_parts
from byol_bnfree.training.state import parameter_count
from byol_bnfree.training.step import make_train_step
from experiments.grid import Run

IMAGENET = DataShape(1_281_167, 1000, (224, 224, 3))
PLATFORMS = ("cuda", "tpu")


class Lowered(NamedTuple):
    """What is known of a step that was not run."""

    parameters: int
    steps: int
    operations: int
    """Lines of the lowered program."""


def lower_all(runs: Sequence[Run]) -> None:
    """A line for every arm, with the command that would run it."""
    first = {run.arm: run for run in reversed(runs)}
    for arm, run in reversed(first.items()):
        began = time.perf_counter()
        found = lower(run)
        print(
            f"{arm}: {found.parameters / 1e6:.2f} M parameters, {found.steps} steps; "
            f"lowered to {found.operations} operations for {' and '.join(PLATFORMS)} "
            f"in {time.perf_counter() - began:.0f} s\n"
            f"    python -m byol_bnfree.train {' '.join(run.flags)}",
            flush=True,
        )


def lower(run: Run) -> Lowered:
    """Trace and lower the training step of a run on ImageNet.

    Raises: InputError for what cannot be built.
    """
    config = parse_args(run.flags)
    parts = build_parts(config, IMAGENET)
    step = make_train_step(
        parts.network,
        parts.optimizer,
        parts.schedules,
        config,
        total_steps=parts.total_steps,
        unroll=False,
    )
    size = config.batch_size
    batch = {  # as of a set that streams: cropped on the host
        "crops": jax.ShapeDtypeStruct((size, 2, *IMAGENET.image_shape), jnp.uint8),
        "label": jax.ShapeDtypeStruct((size,), jnp.int32),
    }
    traced = jax.jit(step, donate_argnums=0).trace(parts.abstract_state, batch)
    text = traced.lower(lowering_platforms=PLATFORMS).as_text()
    return Lowered(
        parameter_count(parts.abstract_state.online_params),
        parts.total_steps,
        text.count(" = "),
    )
