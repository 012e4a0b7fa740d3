"""Short runs that the claims about the training step compare.

`python -m byol_bnfree.claims.runs FOLDER SHARED TASK...` runs the tasks of one process.
FOLDER/config.json has the configuration, FOLDER/TASK.npz gets each result, and SHARED
has the checkpoints.
"""

import dataclasses
import json
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from byol_bnfree.claims.settings import CLASSES
from byol_bnfree.config import TrainConfig, ViewsConfig
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.data.sources import MemorySource
from byol_bnfree.leaves import by_path
from byol_bnfree.saved_config import config_from_dict
from byol_bnfree.training import distributed
from byol_bnfree.training.checkpoint import Checkpoints
from byol_bnfree.training.mesh import batch_sharding, replicated
from byol_bnfree.training.parts import DataShape
from byol_bnfree.training.program import Program, build_program

Numbers = dict[str, np.ndarray]
WIDTH_OF_MEMORY = 2.0
"""Width of the network whose memory is measured. In a narrow one the images of the
views, which add up in every case, outweigh the activations."""


class Runs:
    """Runs of one configuration on the devices of this process and its peers."""

    def __init__(self, config: TrainConfig, folder: Path):
        self._config, self._folder = config, folder
        self._source = noise(config)

    def do(self, task: str) -> Numbers:
        """Run a task; return the final state and the metrics of every step, by name.

        Tasks: replicated, sharded, pieces:K (micro-batches), views:HOW (three large
        views and a small one; together, apart, or pieces, which is apart in two
        micro-batches), record (leaves the checkpoint of every step), continue:STEP
        (from that one to the end). The task temporaries:N returns only the bytes that
        a step of N views needs, apart and together.
        """
        name, _, number = task.partition(":")
        if name == "sharded":
            return self._run(self._sharded)
        if name == "pieces":
            return self._run(self._program(micro_batches=int(number)))
        if name == "views":
            views = self._views(count=3, small=1, accumulate=number != "together")
            pieces = 2 if number == "pieces" else 1
            return self._run(self._program(views=views, micro_batches=pieces))
        if name == "temporaries":
            return {
                how: np.array(self._temporaries(int(number), how == "apart"))
                for how in ("apart", "together")
            }
        if name == "record":
            return self._run(self._replicated, record=True)
        if name == "continue":
            return self._run(self._replicated, self._restore(int(number)))
        return self._run(self._replicated)

    @cached_property
    def _replicated(self) -> Program:
        return self._program()

    @cached_property
    def _sharded(self) -> Program:
        return self._program(shard_state=True)

    def _program(self, unroll: bool | None = None, **fields: Any) -> Program:
        config = dataclasses.replace(self._config, **fields)
        source = self._source
        data = DataShape(len(source), source.num_classes, source.image_shape)
        return build_program(config, data, unroll)

    def _views(self, **fields: Any) -> ViewsConfig:
        """Return views with the targets and the small predictor of this run."""
        return dataclasses.replace(self._config.views, **fields)

    def _temporaries(self, count: int, apart: bool) -> float:
        """Return the memory of the program that accelerators run, with a loop."""
        views = self._views(count=count, small=0, accumulate=apart)
        model = dataclasses.replace(self._config.model, width=WIDTH_OF_MEMORY)
        program = self._program(unroll=False, views=views, model=model)
        found = program.compile_step(self._batches(program)(0))
        return found.temporaries if found else np.nan

    def _run(
        self, program: Program, state: Any = None, record: bool = False
    ) -> Numbers:
        """Train to the end, from `state` or from the beginning."""
        batches = self._batches(program)
        state = program.init(batches(0)) if state is None else state
        rows = []
        for step in range(int(state.step), program.total_steps):
            state, metrics, outputs = program.step(state, batches(step))
            rows.append(jax.device_get(metrics | program.collapse(outputs)))
            if record:
                self._save(step + 1, state)
        # Replicate the state, so that every process can read all of it.
        gather = jax.jit(lambda x: x, out_shardings=replicated(program.mesh))
        state = jax.device_get(gather(state))
        numbers = {f"metrics/{k}": np.stack([row[k] for row in rows]) for k in rows[0]}
        return numbers | _named(state)

    def _batches(self, program: Program) -> Batches:
        config, sharding = program.config, batch_sharding(program.mesh)
        return Batches(self._source, config.batch_size, config.seed, sharding)

    def _save(self, step: int, state: Any) -> None:
        checkpoints = Checkpoints(self._workdir(step), keep=1)
        checkpoints.save(step, state)
        checkpoints.close()

    def _restore(self, step: int) -> Any:
        checkpoints = Checkpoints(self._workdir(step), keep=1)
        state, _ = checkpoints.restore(self._replicated.abstract_state)
        checkpoints.close()
        return state

    def _workdir(self, step: int) -> Path:
        return self._folder / f"saved_at_{step}"


def noise(config: TrainConfig) -> MemorySource:
    """Make images of random pixels with random labels. No two pixels are equal.

    The generated shapes have flat areas of equal pixels. With them, 8 micro-batches
    gave the same losses as one, but the gradients of some layers differed by 4 %. With
    these images they do not.
    """
    draws = np.random.default_rng(config.seed)
    count, size = config.data.shapes_train, config.data.image_size
    return MemorySource(
        name="noise",
        split="train",
        class_names=tuple(map(str, range(CLASSES))),
        pixels=draws.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
        targets=draws.integers(0, CLASSES, count).astype(np.int32),
        skipped={},
    )


def _named(tree: Any) -> Numbers:
    return {name: np.asarray(leaf) for name, leaf in by_path(tree).items()}


def main(folder: str, shared: str, *tasks: str) -> None:
    """Run the tasks. Process 0 writes their results."""
    path = Path(folder)
    saved = json.loads((path / "config.json").read_text())
    config = config_from_dict(TrainConfig, saved)
    distributed.initialize(config)
    runs = Runs(config, Path(shared))
    for task in tasks:
        numbers = runs.do(task)
        if distributed.is_primary():
            np.savez(path / f"{task}.npz", **numbers)


if __name__ == "__main__":
    main(*sys.argv[1:])
