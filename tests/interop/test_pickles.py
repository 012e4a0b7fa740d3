"""Nothing in a file is executed, and nothing larger than the file is allocated."""

import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from assembler import (
    BUILD,
    MARK,
    REDUCE,
    array_of_2020,
    array_today,
    attribute,
    call,
    checkpoint,
    dict_,
    document,
    encoded,
    name,
    number,
    text,
    tuple_,
)

from byol_bnfree import InputError
from byol_bnfree.interop import deepmind

ENCODE = name("_codecs", "encode")
RECONSTRUCT = name("numpy._core.multiarray", "_reconstruct")
NDARRAY = name("numpy", "ndarray")
EMPTY = call(RECONSTRUCT, NDARRAY, tuple_(number(0)), encoded(b"b", ENCODE))
FLOAT = call(name("numpy", "dtype"), text("f4"), b"\x89", b"\x88")
PLAIN = tuple_(number(3), text("<"), *[b"N"] * 3, *[number(-1)] * 2, number(0))


def shell(folder: Path) -> bytes:
    return text(f"touch {folder}/trap")


def state(*shape: int, data: bytes = b"") -> bytes:
    """Of an array that claims a shape."""
    sizes = tuple_(*(b"\x8a\x08" + struct.pack("<q", n) for n in shape))
    kind = FLOAT + PLAIN + BUILD
    return (
        EMPTY + tuple_(number(1), sizes, kind, b"\x89", encoded(data, ENCODE)) + BUILD
    )


FIELDS = ("online_params", "target_params", "online_state", "target_state")
create = name("dill._dill", "_create_array")
# Instructions after which the stack machine of CPython would run something.
RUNS = {
    "global": lambda t: document(name("posix", "system") + tuple_(shell(t)) + REDUCE),
    "inst": lambda t: document(MARK + shell(t) + b"iposix\nsystem\n"),
    "obj": lambda t: document(MARK + name("posix", "system") + shell(t) + b"o"),
    "eval": lambda t: document(call(name("__builtin__", "eval"), text("1"))),
    "builtins": lambda t: document(call(name("builtins", "exec"), text("1"))),
    "import": lambda t: document(
        call(name("dill._dill", "_import_module"), text("antigravity"))
    ),
    "attribute": lambda t: document(call(attribute("posix", "system"), shell(t))),
    "other attribute": lambda t: document(
        call(attribute("numpy.core.multiarray", "fromfile"), shell(t))
    ),
    "namedtuple": lambda t: document(
        call(name("dill._dill", "_create_namedtuple"), text("x"), b")", number(3))
        + tuple_(shell(t))
        + REDUCE
    ),
    "create_array": lambda t: document(
        call(create, name("posix", "system"), tuple_(shell(t)), b"N", b"N")
    ),
    "create_function": lambda t: document(
        call(name("dill._dill", "_create_function"), b"N")
    ),
    "partial": lambda t: document(call(name("functools", "partial"), b"N")),
    "numpy.load": lambda t: document(call(name("numpy", "load"), text("x"))),
    "ndarray called": lambda t: document(call(NDARRAY, tuple_(number(2**30)))),
    "dotted": lambda t: b"\x80\x04\x8c\x05numpy\x8c\x13ndarray.__class__.x\x93.",
    "codec": lambda t: document(call(ENCODE, text("x"), text("zlib"))),
    "persistent id": lambda t: document(b"Px\n"),
    "binary persistent id": lambda t: document(text("x") + b"Q"),
    "extension": lambda t: document(b"\x82\x01"),
    "calls a text": lambda t: document(call(text("posix"), shell(t))),
    "newobj": lambda t: document(name("posix", "system") + tuple_(shell(t)) + b"\x81"),
    "build on a dict": lambda t: document(b"}" + dict_({"x": number(1)}) + BUILD),
    "attribute by state": lambda t: document(EMPTY + dict_({"read": b"N"}) + BUILD),
}
doubled = text("x") + b"q\x00" + b"".join(b"h\x00h\x00\x86q\x00" for _ in range(60))
LARGE = {
    "objects": document(call(name("numpy", "dtype"), text("O8"), b"\x89", b"\x88")),
    "strings": document(call(name("numpy", "dtype"), text("S9"), b"\x89", b"\x88")),
    "reconstruct": document(
        call(
            RECONSTRUCT, NDARRAY, tuple_(b"\x8a\x08" + struct.pack("<q", 2**36)), ENCODE
        )
    ),
    "shape": document(state(2**31 - 1, 2**31 - 1)),
    "negative shape": document(state(-1, -1)),
    "nine axes": document(state(*[1] * 9, data=bytes(4))),
    "shape of other bytes": document(state(5, data=bytes(16))),
    "marks": document(MARK * 200_000),
    "nested lists": document(b"]" * 100_000 + b"a" * 99_999),
    "nested tuples": document(b")" + b"\x85" * 100_000),
    "doubled": document(doubled),
    "doubled as a key": document(b"}" + doubled + b"Ns"),
    "doubled as a name": document(call(name("numpy", "dtype"), doubled)),
    "doubled as a module": document(
        call(name("dill._dill", "_import_module"), doubled)
    ),
    "text that claims": document(b"X\xff\xff\xff\x7fabc"),
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b".",
    "memo": document(b"Nr\xff\xff\xff\xffj\xfe\xff\xff\xff"),
    "long": document(b"\x8a\xff" + bytes(255)),
    "name without end": document(b"c" + b"x" * 10_000),
    "not UTF-8": document(b"X\x02\x00\x00\x00\xff\xfe"),
    "trailing": document(b"}") + b"cposix\nsystem\n.",
    "two objects": document(b"}}"),
    "truncated": checkpoint({f: {"a": {"w": np.ones(3)}} for f in FIELDS})[:-30],
    "empty stack": document(b""),
    "mark at the end": document(b"(N"),
    "HTML": b"<!DOCTYPE html><html>Not found</html>",
    "text as root": document(text("hello")),
    "dict without state": document(dict_({"step": number(1)})),
}


@pytest.mark.parametrize("kind", RUNS)
def test_nothing_is_executed(tmp_path, kind):
    path = tmp_path / "file.pkl"
    path.write_bytes(RUNS[kind](tmp_path))
    with pytest.raises(InputError, match="nothing in it was executed"):
        deepmind.load(path)
    assert os.listdir(tmp_path) == ["file.pkl"] and "antigravity" not in sys.modules


@pytest.mark.parametrize("kind", LARGE)
def test_nothing_large_is_allocated_and_the_file_is_refused(tmp_path, kind):
    path = tmp_path / "file.pkl"
    path.write_bytes(LARGE[kind])
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="is not loaded"):
            deepmind.load(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_the_traps_do_run_where_a_pickle_is_loaded(tmp_path):
    """The files are dangerous: CPython's own loader makes the trap."""
    program = f"import pickle; pickle.loads({RUNS['global'](tmp_path)!r})"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "trap").exists()


def test_one_array_in_many_places_is_not_copied_to_each(tmp_path):
    one = np.zeros((64, 64), np.float32)
    modules = {f"res_net50/~/block_group_0/~/block_{i}/~/conv_0": {} for i in range(99)}
    content = checkpoint({f: {} for f in FIELDS})
    shared = array_today(one) + b"r\xff\x00\x00\x01"
    again = b"j\xff\x00\x00\x01"
    inner = dict_(
        {m: dict_({"w": again if i else shared}) for i, m in enumerate(modules)}
    )
    content = content.replace(
        call(name("haiku._src.data_structures", "FlatMapping"), dict_({})), inner, 1
    )
    path = tmp_path / "file.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match="same array in several places"):
        deepmind.load(path)


@pytest.mark.parametrize("write", [array_today, array_of_2020])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u4"])
def test_arrays_are_numpys(tmp_path, write, dtype):
    """By CPython's pickle and NumPy's own functions, where they can read the file."""
    value = np.arange(1500).reshape(3, 500).astype(dtype)
    found = deepmind_array(tmp_path, write(value))
    np.testing.assert_array_equal(found, value)
    assert found.dtype == value.dtype


def deepmind_array(folder: Path, content: bytes) -> np.ndarray:
    from byol_bnfree.interop.deepmind_pickle import read_pickle

    path = folder / "array.pkl"
    path.write_bytes(document(content))
    return read_pickle(path).read()


def test_what_pickle_writes_of_an_array_is_read(tmp_path):
    value = np.random.default_rng(0).normal(size=(7, 300)).astype(np.float32).T
    content = pickle.dumps(value, protocol=2)[2:-1]
    np.testing.assert_array_equal(deepmind_array(tmp_path, content), value)
