"""The journal of a run while it trains: rows, progress, collapse, bad numbers."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from byol_bnfree.cpu.allocator import runs_in_calling_thread
from byol_bnfree.diagnostics.usual import usual
from byol_bnfree.diagnostics.verdict import CollapseWatch, update_watch
from byol_bnfree.errors import RunStopped
from byol_bnfree.models.byol import part_norms
from byol_bnfree.training.logs import MetricsLog
from byol_bnfree.training.program import Program
from byol_bnfree.training.progress import Progress
from byol_bnfree.training.step import UPDATE_RATIOS, update_ratio_names

MUST_BE_FINITE = ("train/loss", "optim/grad_norm", "optim/update_norm")
MEASURES = ("feature_std", "positive_cosine", "negative_cosine", "centered_rank")


class Collapsed(RunStopped):
    """The representation collapsed under --on-collapse=stop."""


DIVERGED = 4
"""Exit status of a run whose numbers are no longer finite: a result, not a fault."""


@dataclass
class Journal:
    """Reads each step's metrics when the device need not wait for it, and acts on them.

    That is after the next step is dispatched, or at once where it is done by then.
    """

    program: Program
    log: MetricsLog
    progress: Progress
    watch: CollapseWatch = CollapseWatch()
    _rows: list[dict[str, float]] = field(default_factory=list)
    _unread: tuple[int, dict[str, jax.Array]] | None = None
    _at_once: bool = field(default_factory=runs_in_calling_thread)
    _waited: float = 0.0
    _knn: float | None = None
    _began: float = field(default_factory=time.perf_counter)
    _cold: bool = True
    _first: float | None = None
    """Seconds until the first step of this process was done, in its first row."""

    def __post_init__(self):
        """Fold the watch over the rows of an earlier part of the run."""
        for row in self.log.rows():
            self._watch(row["step"], row)
            self._knn = row.get("knn/top1", self._knn)

    def next_batch(self, stream: Iterator[Any]) -> Any:
        """The stream's next batch; the time it takes counts as waiting for data."""
        began = time.perf_counter()
        batch = next(stream)
        self._waited += time.perf_counter() - began
        return batch

    def take(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Keep the metrics of the step just dispatched; read what can be read.

        Raises:
          RunStopped: as `catch_up`.
        """
        before, self._unread = self._unread, (step, metrics)
        if before is not None:
            self._read(*before)
        if self._at_once:
            self.catch_up()

    def catch_up(self) -> None:
        """Read what is kept; blocks until its step is done.

        Raises:
          RunStopped: a number that must be finite is not, or the representation
            collapsed and --on-collapse=stop.
        """
        before, self._unread = self._unread, None
        if before is not None:
            self._read(*before)

    def _read(self, step: int, metrics: dict[str, jax.Array]) -> None:
        # One by one: jax.device_get of as many scalars takes ten times as long.
        values = {
            name: np.asarray(value).item()
            for name, value in metrics.items()
            if name != UPDATE_RATIOS
        }
        for name in MUST_BE_FINITE:
            if not math.isfinite(values[name]):
                raise RunStopped(
                    f"{name} is {values[name]} at step {step}; the checkpoint before "
                    f"it is kept: lower --base-lr or lengthen --optim.warmup-epochs.",
                    status=DIVERGED,
                )
        if self._cold:  # it is compiled, or loaded, and tells nothing of the rate
            self._cold, self._first = False, time.perf_counter() - self._began
        self._rows.append(values)
        if self.program.is_logged(step):
            self._write_row(step, self._update_ratios(step, metrics))

    def without(self, work: Callable[[], Any]) -> Any:
        """Do something whose time is no part of the training rate."""
        began = time.perf_counter()
        result = work()
        self._began += time.perf_counter() - began
        return result

    def _update_ratios(self, step: int, metrics: dict[str, Any]) -> dict[str, float]:
        """Ratios of every layer, at the steps of `run.layers_every`."""
        every = self.program.config.run.layers_every
        if not every or step % every:
            return {}
        names = update_ratio_names(self.program.abstract_state.online_params)
        ratios = np.asarray(metrics[UPDATE_RATIOS]).tolist()
        return dict(zip(names, ratios, strict=True))

    def evaluated(self, step: int, figures: dict[str, float]) -> None:
        """Write figures of an evaluation; the progress shows the newest kNN."""
        self.log.write(step, figures)
        self._knn = figures.get("knn/top1", self._knn)

    def _write_row(self, step: int, ratios: dict[str, float]) -> None:
        """Losses and norms are means since the last row, the rest is the latest.

        The rate is that of the steps after the first one of this process, NaN if there
        is none in the row.
        """
        config, seconds = self.program.config, time.perf_counter() - self._began
        last = self._rows[-1]
        row = {
            name: float(np.mean([values[name] for values in self._rows]))
            if name.startswith(("train/", "probe/", "optim/grad", "optim/update"))
            else last[name]
            for name in last
        }
        row["epoch"] = step * config.batch_size / self.program.data.num_examples
        images, steady = config.batch_size * len(self._rows), seconds
        if self._first is not None:
            row["perf/first_step_seconds"] = self._first
            images, steady = images - config.batch_size, seconds - self._first
        row["perf/images_per_s"] = images / steady if images else math.nan
        row["perf/data_wait"] = self._waited / seconds
        row["perf/seconds"] = seconds
        row |= ratios
        self._rows, self._waited, self._first = [], 0.0, None
        self._began = time.perf_counter()
        self.log.write(step, row)
        self._judge(step, row)
        self.progress.update(
            step,
            {
                "epoch": row["epoch"],
                "loss": row["train/loss"],
                "knn": self._knn,
                "probe": row.get("probe/top1"),
                "collapse": self.watch.verdict.state,
                "images_per_s": row["perf/images_per_s"] if images else None,
            },
        )

    def _judge(self, step: int, row: dict[str, float]) -> None:
        before = self.watch.verdict.state
        self._watch(step, row)
        verdict = self.watch.verdict
        if verdict.state == before:
            return
        if verdict.state == "healthy":
            self.progress.say(f"step {step}: no longer {before}.")
            return
        since = self.watch.drifting.since
        self.progress.say(
            f"step {step}: {verdict.state} since step {since}: {verdict.reason}. "
            f"{usual(part_norms(self.program.config))}"
        )
        if verdict.state == "collapsed" and self.program.config.on_collapse == "stop":
            raise Collapsed(
                f"the representation collapsed at step {self.watch.first_collapsed} "
                f"({verdict.reason}); stopped because of --on-collapse=stop.",
                status=3,
            )

    def _watch(self, step: int, row: dict[str, Any]) -> None:
        measures = {name: row.get(f"collapse/{name}") for name in MEASURES}
        if measures["feature_std"] is None:
            return  # a row of an evaluation
        if step == 1:  # measured before the first update
            self.watch = self.watch._replace(untrained=measures)
        self.watch = update_watch(
            self.watch, step, measures, warmup_steps=self.program.warmup_steps
        )
