"""Checkpoints of the training state: saved in the background, verified on restore.

A checkpoint is a folder `checkpoints/<step>`. Orbax writes it under a temporary name
and renames it; it is committed once its manifest exists. The order is always: write,
rename, manifest, and only then delete what is no longer needed, so that a kill at any
moment leaves the newest committed checkpoint whole.
"""

import logging
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from byol_bnfree.errors import why_not_written
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
    describe_leaves,
    load,
    newest_intact,
    saved_steps,
)

_log = logging.getLogger(__name__)


class SaveFailed(OSError):
    """A checkpoint could not be written; those before it are untouched."""


class Checkpoints:
    """The checkpoints in `workdir/checkpoints`.

    Every process of a run makes one and calls `save` and `restore` at the same steps;
    process 0 writes manifests, deletes, and decides what is restored. The folder must
    be one that all processes see, and belong to this run alone (`lock_workdir`).
    """

    def __init__(
        self,
        workdir: Path,
        keep: int,
        warn: Callable[[str], None] = _log.warning,
    ):
        """Removes what a killed save left behind.

        Args:
          workdir: the run's folder.
          keep: number of newest intact checkpoints to keep, at least 1.
          warn: called with one sentence for each checkpoint that cannot be used.
        """
        self._root = workdir.absolute() / "checkpoints"  # Orbax wants absolute paths
        self._keep, self._warn = keep, warn
        self._primary = jax.process_index() == 0
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future | None = None
        self._intact: dict[int, Snapshot] = {}  # as each was when it was last read
        self._current: int | None = None  # the step last saved or restored here
        self._root.mkdir(parents=True, exist_ok=True)
        if self._primary:
            for leftover in self._root.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(leftover, ignore_errors=True)  # or at the next start

    def save(self, step: int, state: PyTree) -> None:
        """Copies `state` to the host and writes it in the background.

        Returns when the device buffers may be donated. Waits for the save before it.
        The step this object last saved or restored is not written again; any other
        folder of the same step is stale (damaged, never committed) and is replaced.

        Raises:
          SaveFailed: the save before this one failed.
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
        """Returns when the last save is committed and old checkpoints are deleted.

        Raises:
          SaveFailed: that save failed.
        """
        pending, self._pending = self._pending, None
        try:
            if pending is not None:
                pending.result()
        except SaveFailed:
            self._current = None  # so the same step can be tried again
            raise

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, oldest first.

        Process 0 is sure of them after `wait`; the others may see the last one later.
        """
        found = saved_steps(self._root)
        return [step for step in found if (self._path(step) / MANIFEST).exists()]

    def restore(self, abstract_state: PyTree) -> tuple[PyTree, int] | None:
        """Loads the newest intact checkpoint; None if there is no committed one.

        Args:
          abstract_state: `jax.ShapeDtypeStruct`s with shardings, which need not be
            those of the run that saved. No two leaves share a buffer afterwards.

        Returns:
          (state, step).

        Raises:
          InputError: every checkpoint is damaged, or its leaves are not those of
            `abstract_state`.
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
        """Waits as `wait` does, then ends the background thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def _warn_if_deleted(self, step: int) -> None:
        """Orbax makes the folder again, so the run goes on, but not silently."""
        if self._primary and not self._root.is_dir():
            self._warn(
                f"{self._root} was deleted under the run; it is made again, and the "
                f"first checkpoint in it will be that of step {step}."
            )

    def _path(self, step: int) -> Path:
        return self._root / str(step)

    def _commit(self, written: Callable[[], None], step: int) -> None:
        """Runs in the background; `written` waits for every process and the rename."""
        try:
            written()
            if self._primary:
                write_manifest(self._path(step))
                self._intact[step] = snapshot(self._path(step))
                self._prune(step)
        except Exception as error:  # of tensorstore's, any kind
            raise SaveFailed(
                f"The checkpoint of step {step} could not be saved in {self._root}: "
                f"{why_not_written(error)}."
            ) from error

    def _is_intact(self, step: int) -> bool:
        """Its files are read once in the life of a run, and again if one has changed.

        What a disk loses later is found when the checkpoint is restored.
        """
        now = snapshot(self._path(step))
        if self._intact.get(step) != now:
            if verify_manifest(self._path(step)):
                return False
            self._intact[step] = now
        return True

    def _prune(self, saved: int) -> None:
        """Deletes all but the step just saved and the newest intact others."""
        kept = {saved}
        others = [step for step in saved_steps(self._root) if step != saved]
        for step in reversed(others):
            if len(kept) < self._keep and self._is_intact(step):
                kept.add(step)
        for step in set(others) - kept:
            # Without its manifest a half-deleted folder is not committed; what cannot
            # be deleted yet (a file that is open over NFS) is tried at the next save.
            (self._path(step) / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(self._path(step), ignore_errors=True)
