"""The training loop: the only side effects of a run."""

import time
from collections.abc import Callable
from typing import NamedTuple

from byol_bnfree.data.pipeline import Batches
from byol_bnfree.errors import InputError, RunStopped
from byol_bnfree.training.checkpoint import Checkpoints
from byol_bnfree.training.distributed import agreed
from byol_bnfree.training.interrupts import interrupts
from byol_bnfree.training.journal import Collapsed, Journal
from byol_bnfree.training.program import Program
from byol_bnfree.training.state import TrainState


class Evaluation(NamedTuple):
    """Figures to log every so many steps."""

    every: int
    measure: Callable[[TrainState], dict[str, float]]


def run_loop(
    program: Program,
    state: TrainState,
    batches: Batches,
    journal: Journal,
    checkpoints: Checkpoints,
    *,
    evaluation: Evaluation | None = None,
) -> TrainState:
    """Train from `state.step` to the end of the program; the end is saved.

    The metrics of a step are read after the next step is dispatched, so the device
    does not wait for the host. Nothing is saved before every step up to it is known
    to be finite.

    Raises:
      RunStopped: by a signal, a number that is not finite, a collapse under
        --on-collapse=stop, a full disk or an unreadable picture.
    """
    step = int(state.step)
    due = _checkpoint_timer(program)
    stream = batches.iterate(step, program.total_steps)

    def save() -> None:
        journal.catch_up()
        checkpoints.save(step, state)
        checkpoints.wait()

    try:
        with interrupts() as asked:
            while step < program.total_steps:
                batch = journal.next_batch(stream)
                state, metrics = program.step(state, batch)
                step += 1
                journal.take(step, metrics)
                if signal := asked(step):
                    save()
                    raise _stopped_by(signal, step, program.total_steps)
                if due(step):
                    journal.catch_up()
                    journal.without(lambda: checkpoints.save(step, state))  # noqa: B023
                if evaluation is not None and step % evaluation.every == 0:
                    journal.catch_up()
                    figures = journal.without(lambda: evaluation.measure(state))  # noqa: B023
                    journal.log.write(step, figures)
            save()
    except Collapsed:
        save()
        raise
    except (InputError, OSError) as error:  # a bad picture, a full disk
        raise RunStopped(
            f"{error} {_last_effort(save, step)}",
            status=2 if isinstance(error, InputError) else 1,
        ) from error
    finally:
        stream.close()
    return state


def _stopped_by(signal: int, step: int, total: int) -> RunStopped:
    return RunStopped(
        f"stopped by signal {signal}, saved at step {step} of {total}; the same "
        f"command resumes.",
        status=128 + signal,
    )


def _last_effort(save: Callable[[], None], step: int) -> str:
    """Save what there is, and say whether that worked."""
    try:
        save()
    except OSError:
        return f"Step {step} could not be saved either."
    return f"Step {step} is saved; the same command resumes."


def _checkpoint_timer(program: Program) -> Callable[[int], bool]:
    """Whether to save after a step: the same answer in all processes.

    Several processes ask process 0's clock, and only where rows are written.
    """
    run = program.config.run
    last = time.monotonic()

    def due(step: int) -> bool:
        nonlocal last
        by_count = run.checkpoint_steps > 0 and step % run.checkpoint_steps == 0
        if program.processes == 1 or program.is_logged(step):
            by_clock = agreed(time.monotonic() - last >= run.checkpoint_seconds)
        else:
            by_clock = False
        if by_count or by_clock:
            last = time.monotonic()
        return by_count or by_clock

    return due
