"""Builds and compiles every arm's step at the paper's size, without running it.

Shapes are abstract, so no memory is allocated. The program is the one for accelerators,
in which micro-batches are a loop. It is lowered for accelerators and compiled for the
devices of this machine.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import jax

from byol_bnfree.command_line import parse_args
from byol_bnfree.config import TrainConfig
from byol_bnfree.data.view_settings import small_side
from byol_bnfree.training.parts import DataShape, abstract_batch, build_parts
from byol_bnfree.training.program import views_together
from byol_bnfree.training.state import parameter_count
from byol_bnfree.training.step import make_train_step
from experiments.grid import Run
from experiments.parsing import effective

IMAGENET = DataShape(1_281_167, 1000, (224, 224, 3))
PLATFORMS = ("cuda", "tpu")


class Step(NamedTuple):
    """A traced training step that was not run."""

    parameters: int
    steps: int
    traced: jax.stages.Traced

    def lower(self) -> int:
        """Return the number of operations in the program for accelerators."""
        text = self.traced.lower(lowering_platforms=PLATFORMS).as_text()
        return text.count(" = ")

    def compile(self) -> jax.stages.Compiled:
        """Compile the program for one device of this machine."""
        return self.traced.lower().compile()


def compile_all(runs: Sequence[Run]) -> None:
    """Print lines for all settings, with their arms and command. Each takes minutes."""
    arms: dict[str, dict[str, Run]] = {}
    for run in runs:
        arms.setdefault(run.settings, {})[f"{run.experiment} {run.arm}"] = run
    for names in arms.values():
        run = next(iter(names.values()))
        began = time.perf_counter()
        step = build(run)
        print(
            f"{', '.join(names)}: {step.parameters / 1e6:.2f} M parameters, "
            f"{step.steps} steps; lowered to {step.lower()} operations for "
            f"{' and '.join(PLATFORMS)}",
            flush=True,
        )
        step.compile()
        print(
            f"    compiled for {jax.default_backend()}; "
            f"{time.perf_counter() - began:.0f} s in all\n"
            f"    python -m byol_bnfree.train {' '.join(effective(run.flags))}",
            flush=True,
        )


def build(run: Run) -> Step:
    """Trace the training step of a run on ImageNet.

    Raises:
      InputError: for settings that do not fit each other.
    """
    config = parse_args(run.flags)
    together = views_together(config, unroll=False)
    parts = build_parts(config, IMAGENET, views=together)
    step = make_train_step(
        parts.network,
        parts.optimizer,
        parts.schedules,
        config,
        unroll=False,
    )
    return Step(
        parameter_count(parts.abstract_state.online_params),
        parts.total_steps,
        jax.jit(step, donate_argnums=0).trace(
            parts.abstract_state, streamed_batch(config)
        ),
    )


def streamed_batch(config: TrainConfig) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of a batch of ImageNet, which the host has cropped."""
    batch, views = abstract_batch(config, IMAGENET), config.views
    image = batch.pop("image")
    size, *sides, channels = image.shape
    shapes = {"crops": (size, views.count, *sides, channels)}
    if views.small:
        sides = (small_side(side, views) for side in sides)
        shapes["small_crops"] = (size, views.small, *sides, channels)
    return batch | {name: image.update(shape=shape) for name, shape in shapes.items()}
