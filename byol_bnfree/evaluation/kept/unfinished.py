"""The state of an unfinished evaluation: finished trials, and the current fit."""

import shutil
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.evaluation.kept.arrays import read_npz, write_npz
from byol_bnfree.evaluation.kept.store import Row, Store


class Snapshot:
    """The state of the current fit, so that an interrupted fit can resume."""

    def __init__(self, path: Path | None = None, seconds: float = 30.0):
        """Save at most every `seconds`. With `path` None nothing is saved."""
        self._path, self._seconds = path, seconds
        self._saved_at = time.monotonic()

    def restore(self, tree: PyTree) -> tuple[int, PyTree]:
        """Return (steps done, saved state), or (0, `tree`) if no saved state fits."""
        found = read_npz(self._path) if self._path else None
        if not found:
            return 0, tree
        step, *saved = (found[name] for name in sorted(found))
        leaves, structure = jax.tree.flatten(tree)
        if [x.shape for x in saved] != [x.shape for x in leaves]:
            return 0, tree
        placed = [
            jax.device_put(x, leaf.sharding)
            for x, leaf in zip(saved, leaves, strict=True)
        ]
        return int(step), jax.tree.unflatten(structure, placed)

    def offer(self, step: int, tree: PyTree) -> None:
        """Save if the last save is long ago. The file is never half-written."""
        if self._path is None or time.monotonic() - self._saved_at < self._seconds:
            return
        leaves = map(np.asarray, (step, *jax.tree.leaves(tree)))
        write_npz(self._path, {f"{i:05}": leaf for i, leaf in enumerate(leaves)})
        self._saved_at = time.monotonic()


class Unfinished:
    """The folder of an evaluation until its result is stored; None saves nothing."""

    def __init__(self, folder: Path | None = None):
        self._folder = folder

    def snapshot(self, fit: Row) -> Snapshot:
        """Return the snapshot for the fit with these settings."""
        if self._folder is None:
            return Snapshot()
        return Snapshot(self._folder / f"state-{checksum(fit)}.npz")

    def find(self, fit: Row) -> Row | None:
        """Return the results of the fit with these settings, if it is finished."""
        return None if self._folder is None else self._points().find(fit)

    def add(self, fit: Row, **measured: Any) -> None:
        """Save the results of a finished fit, and delete the snapshots up to it."""
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._points().add(fit, **measured)
            for path in self._folder.glob("state-*.npz"):
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete the folder, once the result is stored."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _points(self) -> Store:
        return Store(self._folder / "points.jsonl")


NOTHING = Unfinished()  # saves nothing, so work that is interrupted begins again
