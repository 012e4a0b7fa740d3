"""Arrays that are stored between evaluations, and checked when they are read."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np


def cached(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the array in the file, or compute it with `make()` and store it.

    A damaged file is replaced: the zip container has a checksum. The file is always
    either the old or the new one, never a part.
    """
    found = _read(path)
    if found is not None:
        return found
    array = make()
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_name(f"unfinished-{path.name}")
    np.savez(unfinished, array=array)
    unfinished.replace(path)
    return array


def _read(path: Path) -> np.ndarray | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["array"]
    except (FileNotFoundError, zipfile.BadZipFile, ValueError, EOFError, KeyError):
        return None
