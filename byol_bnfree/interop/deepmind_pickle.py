"""The objects in DeepMind's BYOL checkpoints, as dill has written them since 2020.

In 2020 dill named functions by `_get_attr(_import_module(module), name)`. Here this
pair is looked up in the same table as any other name.
"""

import mmap
from pathlib import Path
from typing import Any

from byol_bnfree.errors import InputError, why_not_read
from byol_bnfree.interop.arrays import (
    MODULES,
    NDARRAY,
    NUMPY,
    RECONSTRUCT,
    LazyArray,
)
from byol_bnfree.interop.pickle_machine import (
    Buildable,
    Inert,
    Names,
    Refused,
    shown,
)
from byol_bnfree.interop.pickles import load

MOST_FIELDS = 16  # of a named tuple; states of optimizers have fewer
IMPORTED = (*MODULES, "_codecs")
MAPPINGS = ("FlatMapping", "FlatMap", "FrozenDict", "frozendict")


class Record(dict):
    """A named tuple of the file, as fields by name."""


class HaikuMapping(dict, Buildable):
    """Haiku's immutable mappings. They get their items at once or as a state."""

    def __init__(self, items: Any = None):
        if items is not None and not isinstance(items, dict):
            raise Refused("makes a mapping of something that is not a dict")
        super().__init__(items or {})

    def build(self, state: Any) -> None:
        """Take the slots of the frozendict of 2020."""
        slots = state[1] if isinstance(state, tuple) else state
        self.update(slots["_storage"])


def _named_tuple(name: Any, fields: Any, module: Any, defaults: Any = None) -> Inert:
    """Return a constructor of records. (dill's own imports `module`.)"""
    texts = isinstance(fields, tuple) and all(isinstance(f, str) for f in fields)
    if not isinstance(name, str) or not texts or len(fields) > MOST_FIELDS:
        raise Refused("makes an unusual named tuple")
    return Inert(name, lambda *values: Record(zip(fields, values, strict=True)))


def _import_module(name: Any, *safe: Any) -> str:
    if not isinstance(name, str) or name not in IMPORTED:
        raise Refused(f"imports {shown(name)}")
    return name


def _get_attr(module: Any, name: Any) -> Inert:
    known = isinstance(module, str) and isinstance(name, str)
    if not known or (module, name) not in NUMPY:
        raise Refused(f"takes the attribute {shown(name)} of {shown(module)}")
    return NUMPY[module, name]


def _create_array(function: Any, arguments: Any, state: Any, rest: Any = None) -> Any:
    if function is not RECONSTRUCT or not isinstance(arguments, tuple):
        raise Refused("makes an array with an unknown function")
    array = RECONSTRUCT.function(*arguments)
    array.build(state)
    return array


def _jax_array(function: Any, arguments: Any, state: Any, abstract: Any) -> LazyArray:
    return _create_array(function, arguments, state)


def _load_type(name: Any) -> Inert:
    if name == "ndarray":
        return NDARRAY
    raise Refused(f"makes an object of type {shown(name)}")


DILL = {
    "_create_namedtuple": _named_tuple,
    "_create_array": _create_array,
    "_get_attr": _get_attr,
    "_import_module": _import_module,
    "_load_type": _load_type,
}
NAMES: Names = {
    **NUMPY,
    **{
        (module, name): Inert(name, function)
        for module in ("dill._dill", "dill.dill")
        for name, function in DILL.items()
    },
    **{
        ("haiku._src.data_structures", name): Inert(name, HaikuMapping)
        for name in MAPPINGS
    },
    ("jax._src.array", "_reconstruct_array"): Inert("jax's array", _jax_array),
}


def read_pickle(path: Path) -> Any:
    """Return the root object of a file. Its `LazyArray`s are still on disk.

    Raises:
      InputError: if the file cannot be read, or contains more than a checkpoint's data.
    """
    try:
        with open(path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({why_not_read(error)}); give a file."
        ) from error
    try:
        return load(memoryview(data), NAMES)
    except Refused as error:
        raise not_loaded(path, error) from None


def not_loaded(path: Path, error: Refused) -> InputError:
    """Return the error that names the file."""
    return InputError(
        f"{path} is not loaded: it {error}, unlike the checkpoints that DeepMind "
        f"released for BYOL; nothing in it was executed, give one of those files."
    )
