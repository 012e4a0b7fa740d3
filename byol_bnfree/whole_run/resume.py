"""Checks that the run in a work folder can resume: settings, data, checkpoints."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from byol_bnfree.config import FREE_ON_RESUME, TrainConfig
from byol_bnfree.data.sources import absolute, same_set
from byol_bnfree.errors import InputError
from byol_bnfree.files import RESTORE, expanded, read_json, write_json
from byol_bnfree.own_code import changed_code
from byol_bnfree.saved_config import config_from_dict, placed
from byol_bnfree.training import distributed
from byol_bnfree.training.changes import compare_config, with_later_settings
from byol_bnfree.training.checkpoint import Checkpoints
from byol_bnfree.training.dataset_file import (
    compare_data,
    other_pixels,
    read_description,
)
from byol_bnfree.training.environment import environment, keep_earlier
from byol_bnfree.training.extension import SETTINGS, begins_extension
from byol_bnfree.training.mesh import left_whole, splits_state
from byol_bnfree.training.program import Program
from byol_bnfree.training.restore import committed_steps
from byol_bnfree.training.skipped import forget_skipped
from byol_bnfree.training.workdir import lock_workdir
from byol_bnfree.whole_run.inputs import Data


@contextlib.contextmanager
def writing(workdir: Path) -> Iterator[None]:
    """Hold the lock of the folder, in process 0."""
    if distributed.is_primary():
        with lock_workdir(workdir):
            yield
    else:
        yield


def check_resumable(workdir: Path, config: TrainConfig, data: Data) -> bool:
    """Check that the run in the folder, if any, can be resumed.

    A run that ended before its first checkpoint begins anew, with any settings.

    Returns:
      True if this begins an extension of a finished run.

    Raises:
      InputError: if the folder holds a run with other settings or other data.
    """
    saved = read_json(workdir / "config.json", RESTORE)
    begun = _is_begun(workdir)
    if saved is None:
        if begun:
            raise InputError(
                f"{workdir} holds a run without its config.json, so its settings are "
                f"not known; restore the file to resume it, or give another --workdir."
            )
        return False
    config_from_dict(TrainConfig, saved)  # refuses damaged settings in a sentence
    described = read_description(workdir)
    extended = begins_extension(config, saved)
    differing = "; ".join(_other_settings(config, saved, described, extended))
    if differing and begun:
        raise InputError(
            f"{workdir} holds a run with other settings ({differing}); use the same "
            f"settings to resume it, or another --workdir."
        )
    if differing:
        note = (
            f"{workdir} holds a run without a checkpoint, and this run begins anew "
            f"with other settings ({differing})"
        )
        distributed.say(distributed.labelled("note", note))
    if not begun:
        return False
    changed = changed_code(saved.get("own_code", ()), config)
    if changed:
        raise InputError(
            f"{changed} in {workdir}; restore the file to resume the run, or give "
            f"another --workdir."
        )
    _check_data(workdir, described, data)
    return extended


def _other_settings(
    config: TrainConfig,
    saved: dict[str, Any],
    described: dict[str, Any],
    extended: bool,
) -> list[str]:
    """List the settings that differ and that may not change when a run resumes."""
    free = FREE_ON_RESUME | (SETTINGS if extended else {"extensions"})
    # Settings that a later version added count as their defaults.
    known = with_later_settings(saved, dataclasses.asdict(TrainConfig()))
    known["dataset"] = placed(known["dataset"], described)
    now = _with_saved_paths(known, dataclasses.asdict(config))
    if _may_be_the_same(known["dataset"], now["dataset"], described):
        now["dataset"] = known["dataset"]
    return compare_config(known, now, free)


def _may_be_the_same(before: str, now: str, described: dict[str, Any]) -> bool:
    """Return True for a set under another path, and for a folder that has only moved.

    `_check_data` compares the pictures of a folder of one name, if dataset.json has
    their checksum.
    """
    if same_set(before, now):
        return True
    folders = all(text.startswith("folder:") for text in (before, now))
    names = {Path(absolute(text)).name for text in (before, now)}
    known = "identity" in (described.get("train") or {})
    return folders and known and len(names) == 1


def _check_data(workdir: Path, before: dict[str, Any], data: Data) -> None:
    if not before:
        return
    if differing := compare_data(before, data.description):
        raise InputError(
            f"{workdir} holds a run on other data ({'; '.join(differing)}); restore "
            f"the data to resume it, or give another --workdir."
        )
    # Other pixels under the same names and sizes are not refused, but they are named.
    note = other_pixels(before, data.description)
    if note is not None:
        distributed.say(note)


def _is_begun(workdir: Path) -> bool:
    """Return True if the folder has a checkpoint or the figures of a finished run."""
    folders = (workdir / "checkpoints", workdir / "best" / "checkpoints")
    return any(map(committed_steps, folders)) or (workdir / "summary.json").exists()


def _with_saved_paths(saved: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return settings with the run's paths of own code that has only moved.

    The checksum, the name of the file and the name of the function must be equal.
    """
    same = {text.split()[0] for text in {*saved["own_code"]} & {*now["own_code"]}}

    def path(setting: str, before: str | None, after: str | None) -> str | None:
        names = [os.path.basename(where or "") for where in (before, after)]
        return before if setting in same and names[0] == names[1] else after

    function = path(
        "augment.function", saved["augment"]["function"], now["augment"]["function"]
    )
    return now | {
        "encoder": path("model", saved["encoder"], now["encoder"]),
        "augment": now["augment"] | {"function": function},
    }


def began_as(workdir: str | None) -> dict[str, Any]:
    """Return the settings of the run in a folder; {} if there is nothing to resume."""
    if workdir is None or not _is_begun(expanded(workdir)):
        return {}
    return read_json(expanded(workdir) / "config.json", RESTORE) or {}


def forget_abandoned(workdir: Path) -> None:
    """Remove what a run without a checkpoint left, which would count in the next run.

    Process 0 calls it before any process reads these files.
    """
    if not _is_begun(workdir):
        forget_skipped(workdir)


def write_inputs(workdir: Path, program: Program, data: Data) -> None:
    """Write config.json, environment.json and dataset.json.

    An earlier environment is kept, and named if results may depend on it.
    """
    write_json(workdir / "config.json", dataclasses.asdict(program.config))
    where = environment() | {"kernels": program.kernels}
    if splits_state(program.config):
        where["left_whole"] = left_whole(program.abstract_state, program.mesh)
    note = keep_earlier(workdir, where)
    if note is not None:
        distributed.say(note)
    write_json(workdir / "environment.json", where)
    write_json(workdir / "dataset.json", data.description)


@contextlib.contextmanager
def open_checkpoints(workdir: Path, config: TrainConfig) -> Iterator[Checkpoints]:
    """Open the checkpoints of the folder. A save in progress is finished at the end."""
    checkpoints = Checkpoints(workdir, config.run.keep, distributed.say)
    try:
        yield checkpoints
    except BaseException:
        if jax.process_count() == 1:  # otherwise this could wait for a lost process
            checkpoints.close()
        raise
    checkpoints.close()
