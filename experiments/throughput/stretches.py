"""Stretches of the training loop, beside as many bare steps."""

import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from byol_bnfree.cpu.allocator import keep_freed_memory
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.data.sources import Source
from byol_bnfree.training.checkpoint import Checkpoints
from byol_bnfree.training.gradient import Batch
from byol_bnfree.training.journal import Journal
from byol_bnfree.training.logs import MetricsLog
from byol_bnfree.training.loop import run_loop
from byol_bnfree.training.mesh import batch_sharding
from byol_bnfree.training.program import Program, build_program
from byol_bnfree.training.progress import progress


def measure(
    program: Program, source: Source, steps: int, rounds: int
) -> dict[str, float]:
    """Milliseconds a step, and shares in percent. A stretch has `steps` steps."""
    config, unlabelled = program.config, program.data._replace(num_classes=None)
    batches = Batches(
        source, config.batch_size, config.seed, batch_sharding(program.mesh)
    )
    bare = _Bare(build_program(config, unlabelled), batches)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        loop = _Loop(program, batches, Path(folder))
        stretches = {"loop": loop.stretch, "fed": bare.fed, "ready": bare.ready}
        times: dict[str, list[float]] = {name: [] for name in stretches}
        for stretch in stretches.values():
            stretch(steps)  # compiles
        for _ in range(rounds):
            for name, stretch in stretches.items():
                times[name].append(stretch(steps))
        save = statistics.median(loop.save() for _ in range(3))
        waits = [row["perf/data_wait"] for row in loop.log.rows()[2:]]
    return {
        "ms a step, of a run": 1e3 * statistics.median(times["loop"]),
        "ms a step, bare": 1e3 * statistics.median(times["fed"]),
        "the loop over the bare step, %": _over(times["loop"], times["fed"]),
        "checkpoints, %": 100 * save / config.run.checkpoint_seconds,
        "the bare step over one without data, %": _over(times["fed"], times["ready"]),
        "data wait, %": 100 * statistics.mean(waits),
    }


def _over(longer: list[float], shorter: list[float]) -> float:
    """Percent, by the median of the rounds' ratios."""
    ratios = [a / b for a, b in zip(longer, shorter, strict=True)]
    return 100 * (statistics.median(ratios) - 1)


class _Loop:
    """The loop of a run in stretches, without its checkpoints."""

    def __init__(self, program: Program, batches: Batches, workdir: Path):
        self._program, self._batches = program, batches
        self._checkpoints = Checkpoints(workdir, program.config.run.keep)
        self.log = MetricsLog(workdir)
        self._state = program.init(batches(0))

    def stretch(self, steps: int) -> float:
        """Seconds per step."""
        begin = int(self._state.step)
        program = self._program._replace(total_steps=begin + steps)
        with progress(program.total_steps, begin) as shown:
            journal = Journal(program, self.log, shown)
            began = time.perf_counter()
            self._state = run_loop(
                program, self._state, self._batches, journal, _NoCheckpoints()
            )
            return (time.perf_counter() - began) / steps

    def save(self) -> float:
        """Seconds that a checkpoint takes from the loop, and from the next steps."""
        step = int(self._state.step)
        plain = [self.stretch(50) for _ in range(3)]
        began = time.perf_counter()
        self._checkpoints.save(step, self._state)
        blocked = time.perf_counter() - began
        beside = self.stretch(50)  # while it is written
        self._checkpoints.wait()
        return blocked + 50 * max(beside - statistics.median(plain), 0)


class _NoCheckpoints:
    """Saves nothing, because a stretch's end is not the end of a run."""

    def save(self, step: int, state: object) -> None:
        """As `Checkpoints.save`."""

    def wait(self) -> None:
        """As `Checkpoints.wait`."""


class _Bare:
    """The step alone; without metrics in its results the compiler leaves them out."""

    def __init__(self, program: Program, batches: Batches):
        self._step = jax.jit(
            lambda state, batch: program.step(state, batch)[0], donate_argnums=0
        )
        self._batches, self._batch = batches, batches(0)
        self._state = program.init(self._batch)

    def ready(self, steps: int) -> float:
        """Seconds a step, all on one batch."""
        return self._stretch(itertools.repeat(self._batch, steps), steps)

    def fed(self, steps: int) -> float:
        """Seconds a step, on the batches of a run."""
        begin = int(self._state.step)
        with contextlib.closing(self._batches.iterate(begin, begin + steps)) as stream:
            return self._stretch(stream, steps)

    def _stretch(self, stream: Iterator[Batch], steps: int) -> float:
        began = time.perf_counter()
        for batch in stream:
            self._state = self._step(self._state, batch)
        jax.block_until_ready(self._state)
        return (time.perf_counter() - began) / steps
