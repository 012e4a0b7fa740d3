"""Writes representations of pictures to a file that other programs can read."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int32

from byol_bnfree.errors import InputError, why_not_written
from byol_bnfree.files import expanded, replacing, replacing_text, writable


class Embedding(NamedTuple):
    """Representations with one row per picture."""

    features: Float[np.ndarray, "n d"]
    files: list[str]
    """Paths relative to the folder, or SET/SPLIT/NUMBER."""
    splits: list[str]
    labels: Int32[np.ndarray, " n"]
    """Indices into `class_names`; -1 means no class."""
    class_names: tuple[str, ...]

    @property
    def classes(self) -> list[str]:
        """The class name of every picture; "" means no class."""
        return [self.class_names[k] if k >= 0 else "" for k in self.labels]


def check_file(path: str) -> Path:
    """Return the path to write. Raise `InputError` before any work if it cannot be."""
    file = expanded(path)
    if file.suffix not in _WRITERS:
        raise InputError(
            f"--out {path} must end in {', '.join(_WRITERS)}; choose one of these "
            f"endings."
        )
    if file.suffix == ".parquet":
        _parquet()
    return writable(path)


def save_embedding(path: Path, found: Embedding) -> None:
    """Write the file whole or not at all. Raise `InputError` if that fails."""
    try:
        _WRITERS[path.suffix](path, found)
    except OSError as error:
        raise InputError(f"{path} is not written: {why_not_written(error)}.") from error


def _write_npz(path: Path, found: Embedding) -> None:
    """Write the arrays features, files, splits, labels and class_names; no pickles."""
    with replacing(path) as file:
        np.savez(
            file,
            features=found.features,
            files=np.array(found.files, str),
            splits=np.array(found.splits, str),
            labels=found.labels,
            class_names=np.array(found.class_names, str),
        )


def _write_csv(path: Path, found: Embedding) -> None:
    """Write columns file, split, class, and f0, f1, ... with all digits of float32."""
    with replacing_text(path) as file:
        writer = csv.writer(file)
        width = found.features.shape[1]
        writer.writerow(["file", "split", "class", *(f"f{k}" for k in range(width))])
        rows = zip(found.files, found.splits, found.classes, strict=True)
        for row, features in zip(rows, found.features, strict=True):
            writer.writerow([*row, *map(str, features)])


def _write_parquet(path: Path, found: Embedding) -> None:
    """Write columns file, split, class (null if none) and features (a list)."""
    arrow, parquet = _parquet()
    values = arrow.array(np.ascontiguousarray(found.features, np.float32).ravel())
    width = found.features.shape[1]
    table = arrow.table(
        {
            "file": found.files,
            "split": found.splits,
            "class": arrow.array([name or None for name in found.classes], "string"),
            "features": arrow.FixedSizeListArray.from_arrays(values, width),
        }
    )
    with replacing(path) as file:
        parquet.write_table(table, file)


def _parquet() -> tuple:
    """Import the modules of an optional package."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "--out with .parquet needs the package pyarrow; install it with pip "
            "install '.[parquet]', or write .npz or .csv."
        ) from error
    return pyarrow, pyarrow.parquet


_WRITERS: dict[str, Callable[[Path, Embedding], None]] = {
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
