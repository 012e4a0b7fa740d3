"""Reads the arrays of a `.pth` file from `torch.save`, without torch.

The file is a zip archive of a pickle and raw numbers. The machine in `pickles` runs the
pickle and calls nothing in it. Objects of other classes, which training libraries save,
become empty stand-ins.
"""

import math
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from byol_bnfree.errors import InputError, why_not_read
from byol_bnfree.interop.description import KEY
from byol_bnfree.interop.pickle_machine import Buildable, Inert, Names, Refused
from byol_bnfree.interop.pickles import LISTS, PLAIN, load
from byol_bnfree.interop.trees import Flat

DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
NESTED = ("state_dict", "model_state_dict", "model")
"""Keys under which training libraries store the state dict."""
MOST_PICKLE = 64 << 20  # bytes; the numbers lie outside the pickle


class OrderedDict(dict, Buildable):
    """`collections.OrderedDict`, with the metadata that modules attach to it."""

    modules: Any = None
    """Metadata by the name of a module."""

    def build(self, state: Any) -> None:
        """Keep the metadata."""
        self.modules = state.get("_metadata") if isinstance(state, dict) else None


def read_state_dict(path: Path) -> tuple[Flat, dict[str, str]]:
    """Return the arrays by name, and the metadata of our encoder if it has some.

    Anything else is left out.

    Raises:
      InputError: if this is no such file, or the numbers do not fit their shapes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _state_dict(_root(archive), path)
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(
            f"{path} cannot be read as a file of torch.save ({why_not_read(error)}); "
            f"save the state dict again with PyTorch 1.6 or newer."
        ) from error
    except Refused as error:
        raise InputError(
            f"{path} is not loaded: it {error}; save the state dict alone, by "
            f"torch.save(model.state_dict(), file)."
        ) from None


def _root(archive: zipfile.ZipFile) -> Any:
    members = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in members if name.endswith("data.pkl")]
    if len(pickles) != 1:
        raise Refused("has no data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    if members[pickles[0]].file_size > MOST_PICKLE:
        raise Refused("has a pickle of unusual size")

    def storage(identity: Any) -> np.ndarray:
        """Return the numbers that a pickle names; refuse a wrong size."""
        kind, token, key, _, count = identity
        dtype = DTYPES[token.name.rpartition(".")[2]]
        info = members[f"{folder}data/{key}"]
        stored = info.compress_type == zipfile.ZIP_STORED
        # `torch.save` compresses nothing. Equal sizes rule out a file that unpacks to
        # far more.
        whole = info.file_size == info.compress_size == count * dtype.itemsize
        if kind != "storage" or not stored or not whole:
            raise Refused("has numbers of another size than it says")
        return np.frombuffer(archive.read(info), dtype)

    data = memoryview(archive.read(members[pickles[0]]))
    return load(data, NAMES, PLAIN | LISTS, storage, strangers=True)


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any
) -> np.ndarray:
    """Act as `torch._utils._rebuild_tensor_v2`: a view of numbers, within bounds."""
    sizes = (offset, *shape, *strides)
    whole = all(type(n) is int and n >= 0 for n in sizes)
    if not isinstance(storage, np.ndarray) or not whole or len(shape) != len(strides):
        raise Refused("has a tensor of an impossible shape")
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if math.prod(shape) > len(storage) or (math.prod(shape) and last >= len(storage)):
        raise Refused("has a tensor that is larger than its numbers")
    steps = [s * storage.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps)


def _parameter(tensor: Any, *rest: Any) -> Any:
    return tensor


NAMES: Names = {
    ("collections", "OrderedDict"): Inert("OrderedDict", OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2"): Inert("a tensor", _tensor),
    ("torch._utils", "_rebuild_parameter"): Inert("a parameter", _parameter),
}


def _state_dict(root: Any, path: Path) -> tuple[Flat, dict[str, str]]:
    for key in NESTED:
        if isinstance(root, dict) and isinstance(root.get(key), dict):
            root = root[key]
    arrays = root.items() if isinstance(root, dict) else ()
    found = {
        name: value
        for name, value in arrays
        if isinstance(name, str) and isinstance(value, np.ndarray)
    }
    if not found:
        raise InputError(f"{path} holds no state dict; save model.state_dict().")
    return found, _metadata(root)


def _metadata(root: Any) -> dict[str, str]:
    """Return the description that `for_torch/encoder.py` attaches to its module."""
    modules = getattr(root, "modules", None)
    for module in modules.values() if isinstance(modules, dict) else ():
        text = module.get(KEY) if isinstance(module, dict) else None
        if isinstance(text, str):
            return {KEY: text}
    return {}
