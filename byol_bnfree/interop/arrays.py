"""NumPy arrays in a pickle of protocol 2, which stores their bytes as text.

Every size is compared with the available bytes before an array is made.
"""

import math
from typing import Any

import numpy as np

from byol_bnfree.interop.pickle_machine import (
    Buildable,
    Inert,
    Names,
    Refused,
    Span,
    shown,
)

DTYPES = ("f4", "f8", "i4", "i8", "u4")
MOST_AXES = 8  # a kernel has four
MODULES = (
    *("numpy.core.multiarray", "numpy.core._multiarray_umath"),
    *("numpy._core.multiarray", "numpy._core._multiarray_umath"),
)


class DType(Buildable):
    """A number type, by name. Its state makes it little-endian."""

    def __init__(self, name: Any, align: Any = False, copy: Any = True):
        if name not in DTYPES:
            raise Refused(f"has an array of type {shown(name)}")
        self.name = name

    def build(self, state: Any) -> None:
        """Take the state `(3, "<", None, None, None, -1, -1, 0)`."""
        if not isinstance(state, tuple) or state[1:5] != ("<", None, None, None):
            raise Refused("has an array whose type is not plain little-endian")


class LazyArray(Buildable):
    """An array whose bytes are still in the file. `read` makes it."""

    shape: tuple[int, ...] = (0,)
    bytes = 0

    def build(self, state: Any) -> None:
        """Take the state `(version, shape, dtype, fortran, data)`."""
        _, shape, dtype, fortran, data = state
        sizes = isinstance(shape, tuple) and all(type(n) is int for n in shape)
        if not sizes or len(shape) > MOST_AXES or min(shape, default=0) < 0:
            raise Refused("has an array of an impossible shape")
        if not isinstance(dtype, DType) or not isinstance(data, Latin1):
            raise Refused("has an array without type or data")
        # Checked first, because a false shape could ask for any amount of memory.
        needed = math.prod(shape) * np.dtype(dtype.name).itemsize
        if not data.least <= needed <= data.most:
            raise Refused(
                f"has an array of shape {shape} that needs {needed:,} bytes where "
                f"the file has {data.most:,}"
            )
        self.bytes = needed
        self.shape, self._dtype, self._data = shape, np.dtype("<" + dtype.name), data
        self._order = "F" if fortran else "C"

    def read(self) -> np.ndarray:
        """Return the array as a copy."""
        data = self._data.read()
        if len(data) != math.prod(self.shape) * self._dtype.itemsize:
            raise Refused(f"has an array of shape {self.shape} with {len(data)} bytes")
        flat = np.frombuffer(data, self._dtype)
        return flat.reshape(self.shape, order=self._order)


class Latin1:
    """Bytes that the file stores as text, one letter per byte."""

    def __init__(self, text: Any, codec: Any):
        if codec not in ("latin1", "latin-1") or not isinstance(text, str | Span):
            raise Refused(f"decodes data with {shown(codec)}")
        self._text = text
        if isinstance(text, str):
            self.least = self.most = len(text)
        else:  # in UTF-8 a letter of Latin-1 takes one byte or two
            self.least, self.most = len(text.data) // 2, len(text.data)

    def read(self) -> bytes:
        """Return the bytes."""
        text = self._text
        try:
            text = text if isinstance(text, str) else str(text.data, "utf-8")
            return text.encode("latin1")
        except UnicodeError:
            raise Refused("has array data that is not Latin-1") from None


def _array(kind: Any, shape: Any, typecode: Any) -> LazyArray:
    """Act as `numpy._reconstruct`: make an empty array that gets its state later."""
    start = typecode.read() if isinstance(typecode, Latin1) else typecode
    if kind is not NDARRAY or shape != (0,) or start not in (b"b", "b"):
        raise Refused("makes an array other than an empty one")
    return LazyArray()


def _never(*arguments: Any) -> None:
    raise Refused("makes an array by its class")


NDARRAY = Inert("numpy.ndarray", _never)
RECONSTRUCT = Inert("numpy's _reconstruct", _array)
ENCODE = Inert("_codecs.encode", Latin1)
NUMPY: Names = {
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): Inert("numpy.dtype", DType),
    ("_codecs", "encode"): ENCODE,
    **{(module, "_reconstruct"): RECONSTRUCT for module in MODULES},
}
