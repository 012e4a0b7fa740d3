"""Files of fitted classifiers: `evaluate --save` writes them, `predict` reads them."""

import json
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.errors import InputError, why_not_read
from byol_bnfree.evaluation.kept.arrays import write_npz
from byol_bnfree.files import file_name, strict

FOLDER = "classifiers"
DIGITS = 8  # of the checksum in a name
_DAMAGED = zipfile.BadZipFile, zlib.error, NotImplementedError  # of a damaged archive


class Fitted(NamedTuple):
    """A linear classifier, with its encoder if that was trained too."""

    kernel: Float[Array | np.ndarray, "d k"]
    bias: Float[Array | np.ndarray, " k"]
    variables: Any = None
    """Variables of the fine-tuned encoder; None means the run's own encoder."""


def classifier_path(folder: Path, identity: dict[str, Any]) -> Path:
    """Return the file for a measurement's classifier, in a folder of evaluations.

    A checksum of the identity ends the name, so other settings have files of their own.
    """
    settings = identity["settings"]
    kinds = [settings[key] for key in ("share", "method") if key in settings]
    subject = [identity["protocol"], *kinds, identity["dataset"], identity["network"]]
    name = "-".join([*map(str, subject), f"step{identity['step']}"])
    name = file_name(re.sub(r"[^\w.=-]+", "_", name))
    ending = f"seed{identity['seed']}-{checksum(strict(identity))[:DIGITS]}"
    return folder / FOLDER / f"{name}-{ending}.npz"


def save_fitted(path: Path, fitted: Fitted, about: dict[str, Any]) -> None:
    """Write a classifier and its description. The file is never half-written."""
    arrays = {"kernel": fitted.kernel, "bias": fitted.bias}
    arrays |= flatten_dict({"variables": fitted.variables or {}}, sep="/")
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    write_npz(path, {"about": np.array(json.dumps(about))} | arrays)


def read_fitted(path: Path) -> tuple[Fitted, dict[str, Any]]:
    """Read a classifier and its description; `InputError` for any other file."""
    try:
        with open(path, "rb") as raw, np.lib.npyio.NpzFile(raw) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        tree = unflatten_dict(arrays, sep="/")
        fitted = Fitted(tree["kernel"], tree["bias"], tree.get("variables"))
    except (OSError, ValueError, KeyError, EOFError, *_DAMAGED) as error:
        raise InputError(
            f"{path} is not a classifier ({why_not_read(error)}); give a file that "
            f"`python -m byol_bnfree.evaluate --save` has written."
        ) from error
    return fitted, about


def classifier_description(path: Path) -> dict[str, Any] | None:
    """Return the description in a classifier's file; None without a whole file."""
    try:
        return read_fitted(path)[1]
    except InputError:
        return None
