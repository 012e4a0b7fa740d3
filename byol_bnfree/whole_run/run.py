"""One run from configuration to summary: `train(config)`."""

import contextlib
import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import linen as nn

from byol_bnfree.config import FREE_ON_RESUME, TrainConfig
from byol_bnfree.data.check import odd_pictures
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.data.records import needs_test
from byol_bnfree.data.sources import DataSet, Source, find_data
from byol_bnfree.draw_views import sheet_of
from byol_bnfree.encoder import Encoder, load_encoder
from byol_bnfree.epochs import whole_steps
from byol_bnfree.errors import InputError, RunStopped
from byol_bnfree.evaluation.final import Evaluator
from byol_bnfree.files import write_json
from byol_bnfree.interop.start import read_start
from byol_bnfree.models.byol import encoder_name, part_norms
from byol_bnfree.models.own import GIVEN
from byol_bnfree.own_code import full_path
from byol_bnfree.summary import conclude, introduce, summarize
from byol_bnfree.training import distributed
from byol_bnfree.training.best import Best
from byol_bnfree.training.boards import Wandb, figures_of, settings_of
from byol_bnfree.training.changes import compare_config
from byol_bnfree.training.checkpoint import Checkpoints
from byol_bnfree.training.dataset_file import compare_data, describe_data
from byol_bnfree.training.figures import save_curves, save_views
from byol_bnfree.training.journal import Journal
from byol_bnfree.training.logs import MetricsLog, Row, environment
from byol_bnfree.training.loop import Evaluation, run_loop
from byol_bnfree.training.mesh import batch_sharding
from byol_bnfree.training.optim import warmup_steps
from byol_bnfree.training.program import DataShape, Program, build_program
from byol_bnfree.training.progress import progress
from byol_bnfree.training.restore import saved_steps
from byol_bnfree.training.skipped import SkippedFile
from byol_bnfree.training.state import TrainState
from byol_bnfree.training.workdir import lock_workdir, prepare_workdir

OnRow = Callable[[Row], None]


class Data(NamedTuple):
    """Both splits of the data set; no test split if there is none to evaluate on."""

    train: Source
    test: Source | None
    description: dict[str, Any]
    """The content of dataset.json."""

    @property
    def sources(self) -> list[Source]:
        """The sources of both splits, if both exist."""
        return [source for source in self[:2] if source is not None]

    @property
    def shape(self) -> DataShape:
        """The sizes that networks and schedules depend on."""
        return DataShape(
            len(self.train), self.train.num_classes, self.train.image_shape
        )


class Trained(dict[str, Any]):
    """The content of summary.json; beside it where the run is, and its encoder."""

    def __init__(
        self,
        summary: dict[str, Any],
        workdir: Path,
        module: nn.Module | None = None,
    ):
        super().__init__(summary)
        self.workdir, self._module = workdir, module

    @functools.cached_property
    def encoder(self) -> Encoder:
        """The online encoder of the newest checkpoint, loaded at first use."""
        return load_encoder(self.workdir, encoder=self._module)


def train(
    config: TrainConfig,
    on_row: OnRow | None = None,
    *,
    encoder: nn.Module | None = None,
) -> Trained:
    """Pre-train, evaluate, and leave everything in the work folder.

    The same call again resumes an unfinished run and returns the summary of a
    finished one. SIGINT, SIGTERM and their like save and stop where this is called in
    the main thread; elsewhere an exception of `on_row` does.

    Args:
      config: all settings; `config.workdir` None makes a new folder under `runs/`.
      on_row: called in process 0 with every row that is written to metrics.jsonl,
        {"step": int, name: float or None}, for other loggers and live curves. What it
        raises ends the run, which is saved first.
      encoder: a Linen module of your own, called as `module(images, train)`, images
        [b h w c] to representations [b d]. It takes the place of `config.model.name`;
        `load_encoder(workdir, encoder=module)` needs it again. (`config.encoder`, on
        the command line `--model=FILE:FUNCTION`, is found again by itself.)

    Returns:
      The content of summary.json, with `.encoder` and `.workdir`.

    Raises:
      InputError: before any work, for settings or data that cannot be; a RunStopped
        where several processes run.
      RunStopped: the run ended early; what could be saved is saved.
    """
    return run(config, on_row, encoder=encoder)


def run(
    config: TrainConfig,
    on_row: OnRow | None = None,
    before_steps: Callable[[], None] | None = None,
    encoder: nn.Module | None = None,
) -> Trained:
    """`train`, and for command lines `before_steps`: called when all is made."""
    distributed.initialize(config)
    try:
        with distributed.fate_shared(), _compilation_cache(config):
            trained = _train(config, on_row, before_steps, encoder)
            distributed.wait_for_all("end")  # however long process 0 still writes
            return trained
    except InputError as error:
        if not jax.distributed.is_initialized():
            raise
        # Of this process alone, perhaps, and then the others wait for it.
        raise RunStopped(str(error), status=2, at_once=True) from error


@contextlib.contextmanager
def _compilation_cache(config: TrainConfig) -> Iterator[None]:
    """JAX's folder is a setting of the whole process, so it is given back."""
    if config.run.compilation_cache is None:
        yield
        return
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", config.run.compilation_cache)
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def _train(
    config: TrainConfig,
    on_row: OnRow | None,
    before_steps: Callable[[], None] | None,
    encoder: nn.Module | None,
) -> Trained:
    data_set = find_data(config)
    warmup_steps(config, len(data_set))  # refused before everything is decoded
    data = open_both(data_set)
    config = _resolved(config, data, encoder)
    program = build_program(config, data.shape, encoder=encoder)
    program = _from_weights(program)  # refused before there is a folder
    workdir = prepare_workdir(config.workdir, _name(config))
    with _writing(workdir):
        _check_resumable(workdir, config, data)
        finished = _read_json(workdir / "summary.json")
        if finished is not None:
            _say(f"{workdir} holds a finished run; nothing is left to do.")
            return Trained(finished, workdir, encoder)
        if distributed.is_primary():
            _write_inputs(workdir, program, data)
        with _boards(config, workdir, on_row) as (log, finish):
            summary = _run(program, data, workdir, log, before_steps)
            finish(summary)
        return Trained(summary, workdir, encoder)


@contextlib.contextmanager
def _boards(
    config: TrainConfig, workdir: Path, on_row: OnRow | None
) -> Iterator[tuple[MetricsLog, Callable[[dict[str, Any]], None]]]:
    """The log of rows, and what is called with the summary; closed when left."""
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
            step, figures = summary["steps"], figures_of(summary)
            try:
                log.finish(step, settings, figures, pictures)
            except OSError as error:  # no reason to fail: summary.json is written
                _say(f"{workdir / 'tensorboard'} is not complete: {error.strerror}.")
            if board is not None:
                board.finish(step, figures, pictures)

        yield log, finish


def _from_weights(program: Program) -> Program:
    """With the weights of --init-from in its first state; a run that resumes has its
    own.
    """
    config = program.config
    resumed = Path(config.workdir or "") / "checkpoints"
    if config.init_from is None or (config.workdir and saved_steps(resumed)):
        return program
    start = read_start(config, program.abstract_state)
    for line in start.lines:
        _say(line)
    return program._replace(init=lambda batch: start.put_into(program.init(batch)))


def _run(
    program: Program,
    data: Data,
    workdir: Path,
    log: MetricsLog,
    before_steps: Callable[[], None] | None,
) -> dict[str, Any]:
    config, primary = program.config, distributed.is_primary()
    batches = Batches(
        data.train, config.batch_size, config.seed, batch_sharding(program.mesh)
    )
    skipped = SkippedFile(workdir, jax.process_index())
    for source in data.sources:
        skipped.follow(source)
    evaluator = Evaluator(program, data.train, data.test)
    with _checkpoints(workdir, config) as checkpoints, _beside() as beside:
        state = _restored(program, checkpoints, log)  # refused before it is waited for
        compiling = beside.submit(program.compile_step, batches(0))
        start = 0 if state is None else int(state.step)
        with progress(program.total_steps, start, primary=primary) as shown:
            introduce(program, data.train, data.test, workdir, shown.say)
            for note in data.description["notes"]:
                shown.say(f"note       {note}")
            with shown.working("compiling the first step"):
                if state is None:
                    state = program.init(batches(0))
                views = program.views(batches(0))  # by all processes together
                if primary:
                    _draw(
                        save_views,
                        workdir / "views.png",
                        sheet_of(config, data.train, views),
                    )
                journal = Journal(program, log, shown)
                if before_steps is not None:
                    before_steps()
                compiling.result()
            try:
                state = run_loop(
                    program,
                    state,
                    batches,
                    journal,
                    checkpoints,
                    evaluation=_periodic(program, evaluator),
                    best=Best(workdir) if config.run.keep_best else None,
                )
            finally:
                if primary:
                    norms = "-".join(dict.fromkeys(part_norms(config).values()))
                    title = f"{workdir.name}: {norms}, {data.train.name}"
                    _draw(save_curves, workdir / "curves.png", log.rows(), title)
        summary = summarize(program, evaluator, state, journal, batches)
        summary["skipped_images"] = len(skipped)
    if primary:
        write_json(workdir / "summary.json", summary)
        conclude(summary, workdir)
        if len(skipped):
            _say(f"skipped         {len(skipped):,} bad pictures: {skipped.path}")
    return summary


@contextlib.contextmanager
def _beside() -> Iterator[ThreadPoolExecutor]:
    """A thread; who leaves early, as by Ctrl-C, does not wait for it."""
    executor = ThreadPoolExecutor(1)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False)


def _draw(save: Callable[..., None], path: Path, *contents: Any) -> None:
    """A picture that cannot be written is no reason to stop, or to hide one."""
    try:
        save(path, *contents)
    except OSError as error:
        _say(f"{path} was not written: {error.strerror}.")


def open_both(data_set: DataSet) -> Data:
    """Both splits, or the training split alone where nothing is evaluated."""
    config = data_set.config
    train = data_set.open("train")
    test = data_set.open("test") if needs_test(config) else None
    notes = [] if data_set.found is None else list(data_set.found.notes)
    notes += odd_pictures(train)
    if test is None and needs_test(config):
        notes.append(
            "no class has a second picture to hold out, so nothing is evaluated"
        )
    return Data(train, test, describe_data(data_set, train, test, notes))


def _resolved(
    config: TrainConfig, data: Data, encoder: nn.Module | None
) -> TrainConfig:
    """With the image size and channels that the data decided, and own code's place."""
    if encoder is not None:
        config = dataclasses.replace(config, encoder=GIVEN + type(encoder).__name__)
    elif config.encoder is not None:
        config = dataclasses.replace(config, encoder=full_path(config.encoder))
    if config.augment.function is not None:
        function = full_path(config.augment.function)
        augment = dataclasses.replace(config.augment, function=function)
        config = dataclasses.replace(config, augment=augment)
    size, _, channels = data.train.image_shape
    images = dataclasses.replace(config.data, image_size=size, channels=channels)
    return dataclasses.replace(config, data=images)


def _name(config: TrainConfig) -> str:
    dataset = Path(config.dataset.removeprefix("folder:")).name
    return f"{dataset}-{encoder_name(config)}-{config.norm}-seed{config.seed}"


@contextlib.contextmanager
def _writing(workdir: Path) -> Iterator[None]:
    if distributed.is_primary():
        with lock_workdir(workdir):
            yield
    else:
        yield


def _check_resumable(workdir: Path, config: TrainConfig, data: Data) -> None:
    saved = _read_json(workdir / "config.json")
    if saved is None:
        return
    differing = compare_config(saved, dataclasses.asdict(config), FREE_ON_RESUME)
    if differing:
        raise InputError(
            f"{workdir} holds a run with other settings ({'; '.join(differing)}); "
            f"use the same ones to resume it, or another --workdir."
        )
    before = _read_json(workdir / "dataset.json")
    differing = compare_data(before, data.description) if before else []
    if differing:
        raise InputError(
            f"{workdir} holds a run on other data ({'; '.join(differing)}); bring the "
            f"data back to resume it, or give another --workdir."
        )


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path} is not JSON; restore or delete it.") from None


def _write_inputs(workdir: Path, program: Program, data: Data) -> None:
    write_json(workdir / "config.json", dataclasses.asdict(program.config))
    where = environment() | {"kernels": program.kernels}
    write_json(workdir / "environment.json", where)
    write_json(workdir / "dataset.json", data.description)


@contextlib.contextmanager
def _checkpoints(workdir: Path, config: TrainConfig) -> Iterator[Checkpoints]:
    checkpoints = Checkpoints(workdir, config.run.keep, _say)
    try:
        yield checkpoints
    except BaseException:
        if jax.process_count() == 1:  # a lost process would be waited for
            checkpoints.close()
        raise
    checkpoints.close()


def _restored(
    program: Program, checkpoints: Checkpoints, log: MetricsLog
) -> TrainState | None:
    """The state of the last checkpoint, if any; the log ends at its step."""
    restored = checkpoints.restore(program.abstract_state)
    state, step = restored if restored is not None else (None, 0)
    log.truncate_after(step)
    distributed.wait_for_all("log")  # all processes read it next
    if state is not None:
        _say(f"resuming from the checkpoint of step {step}")
    return state


def _periodic(program: Program, evaluator: Evaluator) -> Evaluation | None:
    if not evaluator.possible:
        return None
    config, images = program.config, program.data.num_examples
    epochs, measure = config.evaluation.knn_every_epochs, evaluator.knn
    if epochs is None:
        # A forward pass over few images costs less than a tenth of a training epoch
        # where that has four times as many.
        few = sum(map(len, evaluator.quick))
        epochs = 0 if config.evaluation.skip else math.ceil(4 * few / images)
        measure = evaluator.quick_knn
    if not epochs:
        return None
    steps = max(1, whole_steps(epochs, images, config.batch_size))

    def figures(state: TrainState) -> dict[str, float]:
        found = {"knn/top1": measure(state)}
        if config.evaluation.linear_too:
            found["linear/top1"] = evaluator.linear(evaluator.features(state))
        return found

    return Evaluation(steps, figures)


def _say(text: str) -> None:
    if distributed.is_primary():
        print(text, flush=True)
