"""The steps of a run, from its first state to its summary."""

import contextlib
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.names import printable
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.data.views import Batch
from byol_bnfree.epochs import whole_steps
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.final import Evaluator
from byol_bnfree.files import write_json
from byol_bnfree.settings.norms import part_norms
from byol_bnfree.training import distributed
from byol_bnfree.training.best import Best
from byol_bnfree.training.checkpoint import Checkpoints
from byol_bnfree.training.distributed import labelled
from byol_bnfree.training.divergence import divergence_explained
from byol_bnfree.training.figures import save_curves, save_views, sheet_of
from byol_bnfree.training.journal import Journal
from byol_bnfree.training.logs import MetricsLog
from byol_bnfree.training.loop import Evaluation, run_loop
from byol_bnfree.training.mesh import batch_sharding
from byol_bnfree.training.program import Program
from byol_bnfree.training.progress import progress
from byol_bnfree.training.skipped import SkippedFile
from byol_bnfree.training.state import TrainState
from byol_bnfree.whole_run.inputs import Data
from byol_bnfree.whole_run.introduction import introduce
from byol_bnfree.whole_run.resume import open_checkpoints
from byol_bnfree.whole_run.summary import conclude, summarize


def run_steps(
    program: Program, data: Data, workdir: Path, log: MetricsLog
) -> dict[str, Any]:
    """Train from the newest checkpoint or the initial state. Return the summary."""
    config, primary = program.config, distributed.is_primary()
    batches = Batches(
        data.train, config.batch_size, config.seed, batch_sharding(program.mesh)
    )
    skipped = _followed(data, workdir)
    evaluator = Evaluator(program, data.train, data.test)
    with open_checkpoints(workdir, config) as checkpoints, _beside() as beside:
        state = _restored(program, checkpoints, log)  # errors come before the compiling
        # The step compiles in a thread, while the state and first pictures are made.
        first = batches(0)
        compiling = beside.submit(program.compile_step, first)
        start = 0 if state is None else int(state.step)
        with progress(program.total_steps, start, primary=primary) as shown:
            introduce(program, data, workdir, shown.say)
            if not config.evaluation.skip and evaluator.obstacle:
                shown.say(labelled("note", evaluator.obstacle))
            with shown.working("compiling the first step"):
                if state is None:
                    state = program.init(first)
                _draw_views(program, data, workdir, first)
                journal = Journal(program, log, shown, data.train.in_memory)
                needed = compiling.result()
                # A process that arrives at the first step much later than the others
                # would be taken for lost.
                distributed.wait_for_all("compiled")
            del first  # the loop makes it again
            if needed is not None:  # the backend reports it
                needed.check(resumed=start > 0)
                shown.say(labelled("memory", needed))
            best = _best(config, evaluator, workdir, shown.say)
            with _curves(workdir, log, config, data), divergence_explained(checkpoints):
                state = run_loop(
                    program,
                    state,
                    batches,
                    journal,
                    checkpoints,
                    evaluation=_periodic(program, evaluator),
                    best=best,
                )
        summary = summarize(program, evaluator, state, journal, batches)
        distributed.wait_for_all("skipped")  # other processes skip pictures too
        skipped.read_others()
        summary["skipped_images"] = len(skipped)
    if primary:
        _finish(summary, workdir, skipped)
    return summary


def check_best(program: Program, data: Data) -> None:
    """Raise `InputError` if --run.keep-best has no kNN accuracies to compare."""
    evaluator = Evaluator(program, data.train, data.test)
    if program.config.run.keep_best and not evaluator.possible:
        raise InputError(
            "--run.keep-best compares kNN accuracies, but these data have no test "
            "pictures, or no labels of two classes; remove it, or give labelled "
            "pictures in both splits."
        )


def _followed(data: Data, workdir: Path) -> SkippedFile:
    """Return the file of bad pictures. It records those that any source will skip."""
    skipped = SkippedFile(workdir, jax.process_index())
    for source in data.sources:
        skipped.follow(source)
    return skipped


def _draw_views(program: Program, data: Data, workdir: Path, first: Batch) -> None:
    views = program.views(first)  # needs all processes
    if distributed.is_primary():
        sheet = sheet_of(program.config, data.train, views)
        _draw(save_views, workdir / "views.png", sheet)


@contextlib.contextmanager
def _curves(
    workdir: Path, log: MetricsLog, config: TrainConfig, data: Data
) -> Iterator[None]:
    """Draw the curves after the last step, however it ends."""
    try:
        yield
    finally:
        if distributed.is_primary():
            norms = "-".join(dict.fromkeys(part_norms(config).values()))
            title = f"{printable(workdir.name)}: {norms}, {data.train.name}"
            _draw(save_curves, workdir / "curves.png", log.rows(), title)


@contextlib.contextmanager
def _beside() -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of one thread. Leaving early, as on Ctrl-C, does not wait for it."""
    executor = ThreadPoolExecutor(1)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False)


def _draw(save: Callable[..., None], path: Path, *contents: Any) -> None:
    """Draw a picture. If it cannot be written, say so and go on."""
    try:
        save(path, *contents)
    except OSError as error:
        distributed.say(f"{path} was not written: {error.strerror}.")


def _restored(
    program: Program, checkpoints: Checkpoints, log: MetricsLog
) -> TrainState | None:
    """Restore the last checkpoint, if any, and drop later rows of the log."""
    restored = checkpoints.restore(program.abstract_state)
    state, step = restored if restored is not None else (None, 0)
    log.truncate_after(step)
    distributed.wait_for_all("log")  # all processes read the log next
    if state is not None:
        distributed.say(f"resuming from the checkpoint of step {step}")
    return state


def _best(
    config: TrainConfig,
    evaluator: Evaluator,
    workdir: Path,
    say: Callable[[str], None],
) -> Best | None:
    """Return the keeper of the best checkpoint; None without --run.keep-best."""
    if not config.run.keep_best:
        return None
    return Best(workdir, evaluator.measured(_is_quick(config)), say)


def _finish(summary: dict[str, Any], workdir: Path, skipped: SkippedFile) -> None:
    """Write the summary, and print the results and the number of bad pictures."""
    write_json(workdir / "summary.json", summary)
    conclude(summary, workdir)
    if len(skipped):
        bad = f"{len(skipped):,} bad pictures: {skipped.path}"
        distributed.say(f"skipped         {bad}")


def _is_quick(config: TrainConfig) -> bool:
    """Return True if kNN is measured on few images during the run."""
    return config.evaluation.knn_every_epochs is None


def _periodic(program: Program, evaluator: Evaluator) -> Evaluation | None:
    config, images = program.config, program.data.num_examples
    if not (evaluator.possible and config.evaluation.knn_in_training):
        return None
    epochs, measure = config.evaluation.knn_every_epochs, evaluator.knn
    if _is_quick(config):
        # By default kNN runs every few epochs on few images. A forward pass over them
        # takes less than a tenth of a training epoch that has four times as many.
        few = sum(map(len, evaluator.quick))
        epochs = math.ceil(4 * few / images)
        measure = evaluator.quick_knn
    steps = max(1, whole_steps(epochs, images, config.batch_size))
    # The end of the run measures kNN on all images. A row of the last step is needed
    # if it has others, or if there is no such end.
    on_all = measure == evaluator.knn or evaluator.quick_is_all
    other = config.evaluation.skip or not on_all
    last = config.run.keep_best or (program.total_steps >= steps and other)

    def figures(state: TrainState) -> dict[str, float]:
        found = {"knn/top1": measure(state)}
        if config.evaluation.linear_too:
            found["linear/top1"] = evaluator.linear(evaluator.features(state))
        return found

    return Evaluation(steps, figures, last)
