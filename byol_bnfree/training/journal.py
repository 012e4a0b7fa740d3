"""The journal of a running training: metrics, progress, collapse, divergence."""

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byol_bnfree.cpu.allocator import runs_in_calling_thread
from byol_bnfree.training.divergence import DIVERGED, Diverged
from byol_bnfree.training.judge import Judge
from byol_bnfree.training.logs import MetricsLog
from byol_bnfree.training.mesh import replicated
from byol_bnfree.training.pace import FIRST_STEP, Pace
from byol_bnfree.training.program import Program
from byol_bnfree.training.progress import Progress
from byol_bnfree.training.recorder import Recorder, Rows
from byol_bnfree.training.step import (
    UPDATE_RATIOS,
    Metrics,
    StepOutputs,
    update_ratio_names,
)

MUST_BE_FINITE = ("train/loss", "optim/grad_norm", "optim/update_norm")
AHEAD = 2
"""Steps that are dispatched after the one that the host waits for."""
MUCH_WAITING = 0.1
"""If steps wait for pictures during a larger share of a row's time, the run says so."""


def _steps_ahead() -> int:
    """Return 0 where a step is done when its call returns."""
    return 0 if runs_in_calling_thread() else AHEAD


class Flight(NamedTuple):
    """A dispatched step, and the arrays to read when it is done."""

    step: int
    done: jax.Array
    """An array that is ready when the step is done."""
    rows: Rows | None
    """Metrics of the steps up to this one, if a row ends with it."""
    ratios: jax.Array | None


@dataclass
class Journal:
    """Reads the metrics of logged steps, and acts on them.

    Metrics stay on the device until a row is written. One transfer then reads them all.
    Collapse is measured by a program of its own, at logged steps only. The host runs
    `AHEAD` steps ahead, so the device never waits for it. Where programs run in the
    calling thread, a step is done at once.
    """

    program: Program
    log: MetricsLog
    progress: Progress
    in_memory: bool = False
    """All pictures are decoded before the first step."""
    judge: Judge = field(init=False)
    pace: Pace = field(init=False)
    _recorder: Recorder = field(init=False)
    _rows: list[dict[str, float]] = field(default_factory=list)
    _flights: deque[Flight] = field(default_factory=deque)
    _ahead: int = field(default_factory=_steps_ahead)
    _said_waiting: bool = False
    _not_measured: Metrics | None = None

    def __post_init__(self):
        """Let the judge see the rows of an earlier part of the run."""
        self.pace = Pace(self.program.config.batch_size)
        self._recorder = Recorder(self.program.config.run.log_every)
        self.judge = Judge(self.program, self.progress.say)
        for row in self.log.rows():
            self.judge.see(row["step"], row)

    def next_batch(self, stream: Iterator[Any]) -> Any:
        """Return the next batch. Time without a running step counts as waiting."""
        running = self._flights[-1].done if self._flights else None
        return self.pace.next_batch(stream, running)

    def take(
        self, step: int, metrics: dict[str, jax.Array], outputs: StepOutputs
    ) -> None:
        """Keep the metrics of the step just dispatched, and act on an earlier step.

        It waits until the step `AHEAD` steps before this one is done.

        Raises:
          RunStopped: see `catch_up`.
        """
        ratios = metrics[UPDATE_RATIOS] if self._has_ratios(step) else None
        logged = self.program.is_logged(step)
        scalars = {n: value for n, value in metrics.items() if n != UPDATE_RATIOS}
        measure = self.program.collapse if logged else self._unknown
        scalars |= measure(outputs)
        rows = self._recorder.take(step, scalars, logged)
        flight = Flight(step, metrics[MUST_BE_FINITE[0]], rows, ratios)
        self._flights.append(flight)
        while len(self._flights) > self._ahead:
            self._land(self._flights.popleft())

    def _unknown(self, outputs: StepOutputs) -> Metrics:
        """Return NaN for each collapse measure, without a transfer to the device."""
        if self._not_measured is None:
            names = jax.eval_shape(self.program.collapse, outputs)
            nans = jax.jit(
                lambda: dict.fromkeys(names, jnp.float32(jnp.nan)),
                out_shardings=replicated(self.program.mesh),
            )
            self._not_measured = nans()
        return self._not_measured

    def catch_up(self, *forgiven: type[Exception]) -> None:
        """Read all metrics that are still unread. This waits for their step.

        `forgiven` errors of a row do not keep the rows after it from being read.

        Raises:
          Diverged: if a number is not finite.
          Collapsed: if the representation collapsed and --on-collapse=stop was given.
        """
        while self._flights:
            with contextlib.suppress(*forgiven):
                self._land(self._flights.popleft())
        rest = self._recorder.rest()
        if rest is not None:
            self._keep(rest.read())

    def _land(self, flight: Flight) -> None:
        """Wait for a step; read the rows that end with it, if any do."""
        jax.block_until_ready(flight.done)  # it moves nothing to the host
        self.pace.step_done()
        if flight.rows is None:
            return
        self._keep(flight.rows.read())
        if self.program.is_logged(flight.step):
            self._write_row(flight.step, self._named(flight.ratios))

    def _keep(self, rows: dict[int, dict[str, float]]) -> None:
        for step, values in rows.items():
            for name in MUST_BE_FINITE:
                if not math.isfinite(values[name]):
                    raise Diverged(
                        f"{name} is {values[name]} at step {step}", status=DIVERGED
                    )
            self._rows.append(values)

    def without(self, work: Callable[[], Any]) -> Any:
        """Run `work` without counting its time in the training rate."""
        return self.pace.without(work)

    def _has_ratios(self, step: int) -> bool:
        """Return True if the row of a step has the update ratios of all layers."""
        every = self.program.config.run.layers_every
        return bool(every) and step % every == 0 and self.program.is_logged(step)

    def _named(self, ratios: jax.Array | None) -> dict[str, float]:
        if ratios is None:
            return {}
        names = update_ratio_names(self.program.abstract_state.online_params)
        return dict(zip(names, jax.device_get(ratios).tolist(), strict=True))

    def evaluated(self, step: int, figures: dict[str, float]) -> None:
        """Write the figures of an evaluation, and show kNN."""
        self.log.write(step, figures)
        self.progress.measured(step, figures)

    def _write_row(self, step: int, ratios: dict[str, float]) -> None:
        """Write a row. Losses and norms are means since the last row.

        Other metrics are the latest values. `Pace` gives the times.
        """
        last = self._rows[-1]
        row = {
            name: float(np.mean([values[name] for values in self._rows]))
            if name.startswith(("train/", "probe/", "optim/grad", "optim/update"))
            else last[name]
            for name in last
        }
        seen = step * self.program.config.batch_size
        row["epoch"] = seen / self.program.data.num_examples
        row |= self.pace.close_row(len(self._rows))
        if FIRST_STEP not in row:  # that row has the compilation too
            self._say_waiting(step, row["perf/data_wait"])
        row |= ratios
        self._rows = []
        # The row is written before the judge may end the run because of it.
        self.log.write(step, row)
        self.judge.judge(step, row)
        self._show(step, row)

    def _show(self, step: int, row: dict[str, float]) -> None:
        """Show a row's figures to the user; None where there is no rate yet."""
        rate = row["perf/images_per_s"]
        left = self.pace.seconds_left(self.program.total_steps - step, rate)
        known = not math.isnan(rate)
        self.progress.update(
            step,
            {
                "epoch": row["epoch"],
                "loss": row["train/loss"],
                "probe": row.get("probe/top1"),
                "collapse": self.judge.watch.verdict.state,
                "images_per_s": rate if known else None,
                "seconds_left": left if known else None,
            },
        )

    def _say_waiting(self, step: int, share: float) -> None:
        """Once: that data are too slow, and what to do."""
        if share < MUCH_WAITING or self._said_waiting:
            return
        self._said_waiting = True
        remedy = (
            "other programs may use the cores, so give the run more of them"
            if self.in_memory
            else "give the run more cores and --data.workers, or store the pictures "
            "smaller"
        )
        self.progress.say(
            f"step {step}: {100 * share:.0f} % of the time was spent waiting for "
            f"pictures; {remedy}."
        )
