"""The outputs of a run while it trains: rows for files, dashboards and the caller."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from byol_bnfree.config import TrainConfig
from byol_bnfree.training import distributed
from byol_bnfree.training.boards import Wandb, figures_of, settings_of
from byol_bnfree.training.logs import MetricsLog, Row

OnRow = Callable[[Row], None]


@contextlib.contextmanager
def open_outputs(
    config: TrainConfig, workdir: Path, on_row: OnRow | None
) -> Iterator[tuple[MetricsLog, Callable[[dict[str, Any]], None]]]:
    """Yield the log of rows, and a function that takes the summary. Close both."""
    primary = distributed.is_primary()
    settings = settings_of(dataclasses.asdict(config))
    pictures = {name: workdir / f"{name}.png" for name in ("views", "curves")}
    with contextlib.ExitStack() as stack:
        board = None
        if config.run.wandb is not None and primary:
            board = Wandb(config.run.wandb, workdir, settings)
            stack.callback(board.close)

        def rows(row: dict[str, Any]) -> None:
            if board is not None:
                board.row(row)
            if on_row is not None:
                on_row(row)

        log = MetricsLog(workdir, primary, rows)
        stack.callback(log.close)

        def finish(summary: dict[str, Any]) -> None:
            """Write the final figures to TensorBoard and the other logger."""
            step, figures = summary["steps"], figures_of(summary)
            try:
                log.finish(step, settings, figures, pictures)
            except OSError as error:  # summary.json is written: no failure
                distributed.say(
                    f"{workdir / 'tensorboard'} is not complete: {error.strerror}."
                )
            if board is not None:
                board.finish(step, figures, pictures)

        yield log, finish
