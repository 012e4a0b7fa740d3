"""Pickles of protocol 2 written instruction by instruction, as dill wrote them.

Neither dill nor haiku is needed, and a file may hold what no pickler would write.
"""

import struct

import numpy as np

STOP, MARK, REDUCE, BUILD = b".", b"(", b"R", b"b"


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def tuple_(*items: bytes) -> bytes:
    return MARK + b"".join(items) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + tuple_(*arguments) + REDUCE


def dict_(items: dict[str, bytes]) -> bytes:
    pairs = b"".join(text(key) + value for key, value in items.items())
    return b"}" + MARK + pairs + b"u"


def document(root: bytes) -> bytes:
    return b"\x80\x02" + root + STOP


def encoded(data: bytes, encode: bytes) -> bytes:
    return call(encode, text(data.decode("latin1")), text("latin1"))


def dtype(code: str) -> bytes:
    state = tuple_(number(3), text("<"), *[b"N"] * 3, *[number(-1)] * 2, number(0))
    return call(name("numpy", "dtype"), text(code), b"\x89", b"\x88") + state + BUILD


def array_state(value: np.ndarray, encode: bytes) -> bytes:
    shape = tuple_(*map(number, value.shape))
    data = encoded(np.ascontiguousarray(value).tobytes(), encode)
    return tuple_(number(1), shape, dtype(value.dtype.str[1:]), b"\x89", data)


def array_today(value: np.ndarray) -> bytes:
    """dill 0.4: `_create_array(_reconstruct, arguments, state, None)`."""
    encode = name("_codecs", "encode")
    arguments = tuple_(
        name("numpy", "ndarray"), tuple_(number(0)), encoded(b"b", encode)
    )
    function = name("numpy._core.multiarray", "_reconstruct")
    state = array_state(value, encode)
    create = name("dill._dill", "_create_array")
    return call(create, function, arguments, state, b"N")


def attribute(module: str, word: str) -> bytes:
    """dill 0.3.1: `_get_attr(_import_module(module), word)`."""
    found = call(name("dill._dill", "_import_module"), text(module))
    return call(name("dill._dill", "_get_attr"), found, text(word))


def array_of_2020(value: np.ndarray) -> bytes:
    encode = attribute("_codecs", "encode")
    function = attribute("numpy.core._multiarray_umath", "_reconstruct")
    empty = call(
        function, name("numpy", "ndarray"), tuple_(number(0)), encoded(b"b", encode)
    )
    return empty + array_state(value, encode) + BUILD


def mapping_today(items: dict[str, bytes]) -> bytes:
    return call(name("haiku._src.data_structures", "FlatMapping"), dict_(items))


def mapping_of_2020(items: dict[str, bytes]) -> bytes:
    """The frozendict's slots, set on an object made without arguments."""
    slots = dict_({"_storage": dict_(items), "_keys": tuple_(*map(text, items))})
    empty = name("haiku._src.data_structures", "frozendict") + b")\x81"
    return empty + tuple_(b"N", slots) + BUILD


STYLES = {
    "today": (array_today, mapping_today),
    "2020": (array_of_2020, mapping_of_2020),
}
FIELDS = "online_params target_params online_state target_state opt_state".split()


def checkpoint(trees: dict[str, dict], style: str = "today", step: int = 7) -> bytes:
    """A file of DeepMind's form; `trees` has the first four of `FIELDS`."""
    array, mapping = STYLES[style]

    def tree(modules: dict) -> bytes:
        inner = {
            module: mapping({key: array(value) for key, value in arrays.items()})
            for module, arrays in modules.items()
        }
        return mapping(inner)

    kind = call(
        name("dill._dill", "_create_namedtuple"),
        text("_ByolExperimentState"),
        tuple_(*map(text, FIELDS)),
        text("byol.byol_experiment"),
    )
    values = tuple_(*(tree(trees[field]) for field in FIELDS[:4]), b")")
    root = {"experiment_state": kind + values + b"\x81", "step": number(step)}
    root["rng"] = array(np.zeros(2, np.uint32))
    return document(dict_(root))
