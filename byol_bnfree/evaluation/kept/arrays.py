"""Files of arrays (.npz), and arrays that are stored between evaluations."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from byol_bnfree.files import replacing


def cached(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the array in the file, or compute it with `make()` and store it.

    A damaged file is replaced.
    """
    found = read_npz(path)
    if found is not None and "array" in found:
        return found["array"]
    array = make()
    write_npz(path, {"array": array})
    return array


def read_npz(path: Path) -> dict[str, np.ndarray] | None:
    """Read arrays; None if there is no file, or if it is damaged.

    The zip container has a checksum of each array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (FileNotFoundError, zipfile.BadZipFile, ValueError, EOFError, KeyError):
        return None


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays. The file is the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.savez(file, **arrays)
