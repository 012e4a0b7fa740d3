"""The training loop. Only it causes side effects during training."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax

from byol_bnfree.data.pipeline import Batches
from byol_bnfree.errors import InputError, Interrupted, RunStopped, same_command
from byol_bnfree.machine.signals import name
from byol_bnfree.training.best import Best
from byol_bnfree.training.checkpoint import Checkpoints, SaveFailed
from byol_bnfree.training.distributed import fate_shared, is_primary
from byol_bnfree.training.interrupts import interrupts
from byol_bnfree.training.journal import Journal
from byol_bnfree.training.judge import Collapsed
from byol_bnfree.training.logs import CallerFailed
from byol_bnfree.training.program import Program
from byol_bnfree.training.save_timer import SaveTimer
from byol_bnfree.training.state import TrainState

ENDED_ALREADY = (OSError, Collapsed, CallerFailed)
"""Errors of a row that say no more when the run ends because of an earlier error.

A full disk may refuse the row but have room for the checkpoint."""


class Evaluation(NamedTuple):
    """Results to log every so many steps."""

    every: int
    measure: Callable[[TrainState], dict[str, float]]
    last: bool = False
    """Also measure the state of the last step."""

    def due(self, step: int, total: int) -> bool:
        """Return True if the state after `step` steps of `total` is measured."""
        return step > 0 and (step % self.every == 0 or self.last and step == total)


def run_loop(
    program: Program,
    state: TrainState,
    batches: Batches,
    journal: Journal,
    checkpoints: Checkpoints,
    *,
    evaluation: Evaluation | None = None,
    best: Best | None = None,
) -> TrainState:
    """Train from `state.step` to the end, and save the final state.

    Metrics are read at logged steps, while later steps run, so the device does not wait
    for the host. A state is saved only after all steps before it are known to be
    finite.

    Raises:
      RunStopped: after a signal, a non-finite number, a collapse under
        --on-collapse=stop, a full disk, or an unreadable picture.
      Exception: if the log's `on_row` raises it. The step is saved.
    """
    step, again = int(state.step), partial(_again, program, checkpoints)
    timer = SaveTimer(program)
    stream = batches.iterate(step, program.total_steps)
    keeper = _Keeper(journal, checkpoints, best)
    try:
        with interrupts(journal.progress.say) as asked, fate_shared(again()):
            total = program.total_steps
            if evaluation is not None and _unmeasured(step, total, evaluation, journal):
                keeper.evaluate(step, state, evaluation.measure)
            while step < total:
                batch = journal.next_batch(stream)
                state, metrics, outputs = program.step(state, batch)
                step += 1
                journal.take(step, metrics, outputs)
                if signal := asked(step):
                    keeper.save(step, state)
                    raise _stopped_by(signal, step, total, again())
                if timer.due(step):
                    keeper.save_and_go_on(step, state)
                if evaluation is not None and evaluation.due(step, total):
                    keeper.evaluate(step, state, evaluation.measure)
            keeper.save(step, state)
            if signal := asked(step + 1):  # during the last evaluation or save
                raise _stopped_by(signal, step, total, again())
    except CallerFailed as error:
        if program.processes == 1:  # saving needs all processes
            keeper.save(step, state, *ENDED_ALREADY)
        raise error.__cause__ from None
    except (Collapsed, InputError, OSError) as error:
        save = partial(keeper.save, step, state, *ENDED_ALREADY)
        raise _stopped_by_error(error, step, save, checkpoints, again) from error
    finally:
        stream.close()
    return state


def _unmeasured(
    step: int, total: int, evaluation: Evaluation, journal: Journal
) -> bool:
    """Return True if a resumed run ended before the evaluation of its last step.

    A step is saved before it is evaluated, so that a signal need not wait.
    """
    if not evaluation.due(step, total):
        return False
    last = [row for row in journal.log.rows() if row["step"] == step]
    return not any("knn/top1" in row for row in last)


class _Keeper(NamedTuple):
    """Saves and evaluates the state between two steps.

    Each method first lets the journal catch up. It reads the metrics of the last steps
    and ends the run if a number is not finite, so such a state is never saved.
    """

    journal: Journal
    checkpoints: Checkpoints
    best: Best | None

    def save(self, step: int, state: TrainState, *forgiven: type[Exception]) -> None:
        """Save the state, and wait until it is on the disk.

        `forgiven` errors may keep a row from being written, but not the checkpoint.
        """
        self.journal.catch_up(*forgiven)
        self.checkpoints.save(step, state)
        self.checkpoints.wait()

    def save_and_go_on(self, step: int, state: TrainState) -> None:
        """Save the state in the background. The rates leave this time out."""
        self.journal.catch_up()
        self.journal.without(lambda: self.checkpoints.save(step, state))

    def evaluate(
        self, step: int, state: TrainState, measure: Callable[[TrainState], dict]
    ) -> None:
        """Measure the state, and keep it if it is the best so far.

        The row is written last: a run that is killed before measures the step again.
        """
        self.journal.catch_up()
        figures = self.journal.without(lambda: measure(state))
        if self.best is not None and self.best.beaten(figures):
            self.journal.without(lambda: self._keep_best(step, state, self.best))
        self.journal.evaluated(step, figures)

    def _keep_best(self, step: int, state: TrainState, best: Best) -> None:
        # A folder of this step may be there and be damaged: `save` replaces it.
        self.checkpoints.save(step, state)
        self.checkpoints.wait()  # the best is a copy of the finished files
        if is_primary():
            best.take(step)


def _again(program: Program, checkpoints: Checkpoints, *flags: str) -> str:
    """Name the command that goes on with this run."""
    return same_command(program.config.workdir, checkpoints.workdir, *flags)


def _stopped_by(signal: int, step: int, total: int, again: str) -> Interrupted:
    return Interrupted(
        f"stopped by {name(signal)}, saved at step {step} of {total}; {again} resumes.",
        status=128 + signal,
    )


def _stopped_by_error(
    error: Exception,
    step: int,
    save: Callable[[], None],
    checkpoints: Checkpoints,
    again: Callable[..., str],
) -> RunStopped:
    """Save the present state, if possible, and say which checkpoint is kept.

    A process that fails alone cannot save: saving needs all processes, and the others
    wait for its next step. It exits at once, which tells the others. `again` names the
    command that goes on, with the flags that it is given.
    """
    status = 2 if isinstance(error, InputError) else getattr(error, "status", 1)
    alone = jax.process_count() > 1 and not isinstance(error, Collapsed)
    if not alone:
        with contextlib.suppress(OSError):
            save()
    kept, resumes = checkpoints.steps(), f"{again()} resumes"
    if isinstance(error, Collapsed):  # which would stop at the next row
        resumes = f"{again('--on-collapse=warn')} goes on"
    if step in kept:
        outcome = f"Step {step} is saved; {resumes}."
    elif kept:
        outcome = f"Step {step} is not saved; {resumes} at {kept[-1]}."
    else:
        outcome = f"Step {step} is not saved, and no checkpoint was saved before it."
    at_once = alone or isinstance(error, SaveFailed) or step not in kept
    return RunStopped(f"{error} {outcome}", status, at_once)
