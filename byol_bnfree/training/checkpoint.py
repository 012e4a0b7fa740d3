"""Checkpoints of the training state: saved in the background, verified on restore.

A checkpoint is a folder `checkpoints/<step>`. Orbax writes it under a temporary name
and renames it. It is committed once its manifest exists. The order is always: write,
rename, write the manifest, and only then delete old checkpoints. A kill at any moment
therefore leaves the newest committed checkpoint whole.
"""

import logging
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from byol_bnfree.errors import why_not_written
from byol_bnfree.training.distributed import is_primary
from byol_bnfree.training.items import split
from byol_bnfree.training.manifest import (
    MANIFEST,
    Snapshot,
    snapshot,
    verify_manifest,
    write_manifest,
)
from byol_bnfree.training.restore import (
    NONE,
    committed_steps,
    describe_leaves,
    load,
    newest_intact,
    saved_steps,
)

_log = logging.getLogger(__name__)


class SaveFailed(OSError):
    """A checkpoint could not be written. Earlier checkpoints are untouched."""


class Checkpoints:
    """The checkpoints in `workdir/checkpoints`.

    Every process of a run makes one object and calls `save` and `restore` at the same
    steps. Process 0 writes manifests, deletes old checkpoints, and decides which one is
    restored. All processes must see the folder, and it must belong to this run alone
    (`lock_workdir`).
    """

    def __init__(
        self,
        workdir: Path,
        keep: int,
        warn: Callable[[str], None] = _log.warning,
    ):
        """Prepare the folder. Process 0 removes files of an interrupted save.

        Args:
          workdir: the run's folder.
          keep: number of newest intact checkpoints to keep, at least 1.
          warn: called with one sentence for each checkpoint that cannot be used.
        """
        self.workdir = workdir
        self._root = workdir.absolute() / "checkpoints"  # Orbax wants absolute paths
        self._keep, self._warn = keep, warn
        self._primary = is_primary()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future | None = None
        self._intact: dict[int, Snapshot] = {}  # sizes and times when last verified
        self._current: int | None = None  # step that this object last saved or restored
        self._root.mkdir(parents=True, exist_ok=True)
        if self._primary:
            for leftover in self._root.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(leftover, ignore_errors=True)  # the next start retries

    def save(self, step: int, state: PyTree) -> None:
        """Copy `state` to the host and write it in the background.

        It first waits for the previous save. When it returns, the device buffers may be
        donated. A step that this object just saved or restored is not written again.
        Any other folder of the same step is damaged or was never committed, and is
        replaced.

        Raises:
          SaveFailed: if the previous save failed.
        """
        self.wait()
        if step == self._current:
            return
        self._warn_if_deleted(step)
        response = ocp.save_checkpointables_async(
            self._root / str(step),
            split(state),
            overwrite=True,
            custom_metadata={"leaves": describe_leaves(state)},
        )
        self._current = step
        self._pending = self._thread.submit(self._commit, response.result, step)

    def wait(self) -> None:
        """Wait until the last save is committed and old checkpoints are deleted.

        Raises:
          SaveFailed: if that save failed.
        """
        pending, self._pending = self._pending, None
        try:
            if pending is not None:
                pending.result()
        except SaveFailed:
            self._current = None  # so the same step can be tried again
            raise

    def steps(self) -> list[int]:
        """Return the steps of the committed checkpoints, oldest first.

        After `wait` the list is complete in process 0. Other processes may see the last
        checkpoint a little later.
        """
        return committed_steps(self._root)

    def restore(self, abstract_state: PyTree) -> tuple[PyTree, int] | None:
        """Load the newest intact checkpoint; None if none is committed.

        Args:
          abstract_state: a tree of `jax.ShapeDtypeStruct` with shardings. They may
            differ from the shardings of the run that saved. In the result no two
            leaves share a buffer, so it may be donated.

        Returns:
          (state, step).

        Raises:
          InputError: if every checkpoint is damaged, or the names, shapes or dtypes of
            its leaves differ from `abstract_state`.
        """
        self.wait()
        decision = newest_intact(self._root, self._warn) if self._primary else NONE
        step = int(multihost_utils.broadcast_one_to_all(np.int32(decision)))
        if step == NONE:
            return None
        state = load(self._root, step, abstract_state)
        self._current = step
        return state, step

    def close(self) -> None:
        """Wait as `wait` does, then end the background thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def _warn_if_deleted(self, step: int) -> None:
        """Warn if the folder was deleted. Orbax makes it again and the run goes on."""
        if self._primary and not self._root.is_dir():
            self._warn(
                f"{self._root} was deleted while the run was writing to it; it is made "
                f"again, and starts with the checkpoint of step {step}."
            )

    def _path(self, step: int) -> Path:
        return self._root / str(step)

    def _commit(self, written: Callable[[], None], step: int) -> None:
        """Commit a save, in the background. `written` waits for all processes."""
        try:
            written()
            if self._primary:
                write_manifest(self._path(step))
                self._intact[step] = snapshot(self._path(step))
                self._prune(step)
        except Exception as error:  # tensorstore raises many types
            raise SaveFailed(
                f"The checkpoint of step {step} could not be saved in {self._root}: "
                f"{why_not_written(error)}."
            ) from error

    def _is_intact(self, step: int) -> bool:
        """Return True if a checkpoint matches its manifest.

        Its files are read once, and again only if their sizes or times change. Disk
        errors after that are found on restore.
        """
        now = snapshot(self._path(step))
        if self._intact.get(step) != now:
            if verify_manifest(self._path(step)):
                return False
            self._intact[step] = now
        return True

    def _prune(self, saved: int) -> None:
        """Delete all checkpoints but the new one and the newest intact others."""
        kept = {saved}
        others = [step for step in saved_steps(self._root) if step != saved]
        for step in reversed(others):
            if len(kept) < self._keep and self._is_intact(step):
                kept.add(step)
        for step in set(others) - kept:
            # The manifest goes first, so a half-deleted folder no longer counts as
            # committed. A folder that cannot be deleted (NFS keeps open files) is
            # deleted after the next save.
            (self._path(step) / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(self._path(step), ignore_errors=True)
