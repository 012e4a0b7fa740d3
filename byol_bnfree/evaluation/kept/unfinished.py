"""The state of an unfinished evaluation: its sweep's points, a fit's state."""

import io
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.evaluation.kept.store import Row, Store
from byol_bnfree.files import write_atomically


class Snapshot:
    """The state of a fit under way, so that an interrupted one goes on."""

    def __init__(self, path: Path | None = None, seconds: float = 30.0):
        """`path` None keeps nothing; `seconds` lie between two saves at least."""
        self._path, self._seconds = path, seconds
        self._saved_at = time.monotonic()

    def restore(self, tree: PyTree) -> tuple[int, PyTree]:
        """(steps done, state) as saved, or (0, `tree`) if nothing was that fits it."""
        found = _read(self._path) if self._path else None
        leaves, structure = jax.tree.flatten(tree)
        if found is None or [x.shape for x in found[1:]] != [x.shape for x in leaves]:
            return 0, tree
        placed = [
            jax.device_put(x, leaf.sharding)
            for x, leaf in zip(found[1:], leaves, strict=True)
        ]
        return int(found[0]), jax.tree.unflatten(structure, placed)

    def offer(self, step: int, tree: PyTree) -> None:
        """Save if the last time was long ago; the file is the old one or the new."""
        if self._path is None or time.monotonic() - self._saved_at < self._seconds:
            return
        leaves = [np.int64(step), *map(np.asarray, jax.tree.leaves(tree))]
        buffer = io.BytesIO()
        np.savez(buffer, **{f"{i:05}": leaf for i, leaf in enumerate(leaves)})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, buffer.getvalue())
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        """When the fit is finished."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _read(path: Path) -> list[np.ndarray] | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[name] for name in sorted(file.files)]
    except (FileNotFoundError, zipfile.BadZipFile, ValueError, EOFError, KeyError):
        return None


class Unfinished:
    """A folder for one evaluation until its figure is stored; None keeps nothing."""

    def __init__(self, folder: Path | None = None):
        self._folder = folder

    def snapshot(self, fit: Row) -> Snapshot:
        """The snapshot of the fit with these settings."""
        if self._folder is None:
            return Snapshot()
        return Snapshot(self._folder / f"state-{checksum(fit)}.npz")

    def find(self, fit: Row) -> Row | None:
        """The figures of the fit with these settings."""
        return None if self._folder is None else self._points().find(fit)

    def add(self, fit: Row, **measured: Any) -> None:
        """Keep what was measured of a finished fit."""
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._points().add(fit, **measured)

    def remove(self) -> None:
        """When the figure is stored."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _points(self) -> Store:
        return Store(self._folder / "points.jsonl")
