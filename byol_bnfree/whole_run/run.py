"""One run from configuration to summary: `train(config)`."""

import functools
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.sources import find_data
from byol_bnfree.encoder import Encoder, load_encoder
from byol_bnfree.errors import InputError, RunStopped, same_command
from byol_bnfree.files import read_json
from byol_bnfree.machine.user_cache import compiled_programs_kept
from byol_bnfree.settings.types import check_kind
from byol_bnfree.training import distributed
from byol_bnfree.training.agreement import check_agreement, check_shared, facts_of
from byol_bnfree.training.extension import (
    keep_what_was,
    resolve_extension,
    steps_of_summary,
)
from byol_bnfree.training.program import build_program
from byol_bnfree.training.schedules import warmup_steps
from byol_bnfree.training.workdir import prepare_workdir
from byol_bnfree.whole_run.before import check_before_data
from byol_bnfree.whole_run.inputs import (
    Data,
    from_weights,
    open_data,
    resolved,
    run_name,
)
from byol_bnfree.whole_run.outputs import OnRow, open_outputs
from byol_bnfree.whole_run.resume import (
    began_as,
    check_resumable,
    forget_abandoned,
    write_inputs,
    writing,
)
from byol_bnfree.whole_run.steps import check_best, run_steps


class Trained(dict[str, Any]):
    """The content of summary.json, with the work folder and the trained encoder."""

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
        """The online encoder of the newest checkpoint, loaded on first use."""
        return load_encoder(self.workdir, encoder=self._module)


def train(
    config: TrainConfig,
    on_row: OnRow | None = None,
    *,
    encoder: nn.Module | None = None,
) -> Trained:
    """Pre-train, evaluate, and write everything to the work folder.

    Calling it again resumes an unfinished run, and returns the summary of a finished
    one. In the main thread SIGINT, SIGTERM and similar signals save the run and stop
    it. In other threads, raise an exception in `on_row` to do so.

    Args:
      config: all settings. `config.workdir` None makes a new folder under `runs/`.
      on_row: called in process 0 with every row of metrics.jsonl, {"step": int, name:
        float or None}, for other loggers and live curves. If it raises an exception,
        the run is saved and ends.
      encoder: your own Linen module. It is called as `module(images, train)` and maps
        images [b h w c] to representations [b d]. It replaces `config.model.name`.
        `load_encoder(workdir, encoder=module)` needs it again. (An encoder from
        `config.encoder`, or `--model=FILE:FUNCTION`, is found again without this.)

    Returns:
      The content of summary.json, with `.encoder` and `.workdir`.

    Raises:
      InputError: for wrong settings or data, before any work. If several processes run,
        it is a RunStopped.
      RunStopped: if the run ended early. Everything that could be saved is saved.
    """
    check_kind(config, TrainConfig, "config", "a TrainConfig, such as TrainConfig()")
    distributed.initialize(config)
    try:
        kept = compiled_programs_kept(config.run.compilation_cache)
        with distributed.fate_shared(same_command(config.workdir)), kept:
            trained = _train(config, on_row, encoder)
            distributed.wait_for_all("end")  # process 0 may still be writing
            return trained
    except InputError as error:
        if not jax.distributed.is_initialized():
            raise
        # Perhaps only this process fails. The others would wait for it.
        raise RunStopped(str(error), status=2, at_once=True) from error


def _train(
    config: TrainConfig, on_row: OnRow | None, encoder: nn.Module | None
) -> Trained:
    check_before_data(config, encoder)
    data_set = find_data(config)
    warmup_steps(config, len(data_set))  # raises errors before pictures are decoded
    resolve_extension(config, len(data_set))
    with closing(open_data(data_set)) as data:
        return _train_on(data, config, on_row, encoder)


def _train_on(
    data: Data,
    config: TrainConfig,
    on_row: OnRow | None,
    encoder: nn.Module | None,
) -> Trained:
    config = resolved(config, data, encoder, began_as(config.workdir))
    program = build_program(config, data.shape, encoder=encoder)
    check_agreement(facts_of(config) | data.facts)
    check_best(program, data)  # raises errors before a folder is made, as the next
    program = from_weights(program)
    workdir = prepare_workdir(config.workdir, run_name(config))
    check_shared(workdir)
    with writing(workdir):
        extended = check_resumable(workdir, config, data)
        finished = read_json(workdir / "summary.json")
        if finished is not None and steps_of_summary(workdir) >= program.total_steps:
            distributed.say(f"{workdir} holds a finished run; nothing is left to do.")
            return Trained(finished, workdir, encoder)
        if distributed.is_primary():
            forget_abandoned(workdir)
        distributed.wait_for_all("inputs")  # all have read what is replaced next
        with open_outputs(config, workdir, on_row) as (log, finish):
            if distributed.is_primary():  # after all that may be refused
                if extended:
                    keep_what_was(workdir, config)
                write_inputs(workdir, program, data)
                (workdir / "summary.json").unlink(missing_ok=True)  # of a shorter run
            summary = run_steps(program, data, workdir, log)
            finish(summary)
        return Trained(summary, workdir, encoder)
