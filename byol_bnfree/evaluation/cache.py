"""Arrays kept between evaluations: named after what they are of, checked when read."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np


def checksum(*parts: Any) -> str:
    """Sixteen hexadecimal digits of what the parts hold: arrays or JSON values."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray | jax.Array):
            array = np.ascontiguousarray(part)
            part = [str(array.dtype), array.shape]
            digest.update(array.tobytes())
        digest.update(json.dumps(part).encode())
    return digest.hexdigest()[:16]


def cached(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array in the file, or that of `make()`, which is written there.

    The zip container has a checksum: a damaged file is made again. The file is the old
    one or the new one, never a part.
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
