"""Arrays kept between evaluations: named after what they are of, checked when read."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PyTree

from byol_bnfree.training.workdir import write_atomically


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


def cached(path: Path, make: Callable[[], np.ndarray | Array]) -> np.ndarray:
    """The array in the file, or that of `make()`, which is written there.

    The zip container has a checksum: a damaged file is made again.
    """
    found = load_arrays(path)
    if found is not None:
        return found[0]
    array = np.asarray(make())
    path.parent.mkdir(exist_ok=True)
    save_arrays(path, array)
    return array


def save_arrays(path: Path, tree: PyTree) -> None:
    """Write the leaves of a tree; the file is the old or the new one, never a part."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    buffer = io.BytesIO()
    np.savez(buffer, **{f"{i:05}": leaf for i, leaf in enumerate(leaves)})
    write_atomically(path, buffer.getvalue())


def load_arrays(path: Path) -> list[np.ndarray] | None:
    """The leaves that `save_arrays` wrote; None if there is no whole file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[name] for name in sorted(file.files)]
    except (FileNotFoundError, zipfile.BadZipFile, ValueError, EOFError, KeyError):
        return None
