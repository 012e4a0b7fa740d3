"""Checks that every setting has the type that its dataclass declares.

The parser of a command line does this. A config file and `TrainConfig(...)` do not.
There an optimizer named "adam" would silently train with another one.
"""

import dataclasses
from collections.abc import Callable
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from byol_bnfree.errors import InputError, flag

ImageSize = int | tuple[int, int]
"""Side of a square, or height and width."""
MOST_CHANNELS = 16  # of a picture; a longer axis of a file is a height or width
LARGEST = 2**31 - 1  # of whole numbers, because devices count in int32
LEAST_FLOAT, LARGEST_FLOAT = 1.2e-38, 3.4e38  # float32 has 0 and infinity beyond
WORDS = {
    int: f"a whole number of at most {LARGEST:,}",
    float: f"a finite number: 0, or from {LEAST_FLOAT:g} to {LARGEST_FLOAT:g} in size",
    bool: "True or False",
    str: "a non-empty text",
    NoneType: "None",
}


def height_and_width(size: ImageSize) -> tuple[int, int]:
    """Of an input of this size."""
    return size if isinstance(size, tuple | list) else (size, size)


def image_size_of(height: int, width: int) -> ImageSize:
    """The setting for an input of this height and width."""
    return height if height == width else (height, width)


def check_kind(value: Any, kind: type | UnionType, name: str, such_as: str) -> None:
    """Raise `InputError` unless a program gave this argument in the class it has.

    `such_as` is what to give, in words.
    """
    if not isinstance(value, kind):
        raise InputError(f"{name} is of type {type(value).__name__}; give {such_as}.")


def check_types(
    config: Any, prefix: str = "", called: Callable[[str], str] = flag
) -> None:
    """Raise `InputError` for the first setting with a wrong type, at any depth.

    `called` gives the name of a setting in the message.

    Whole numbers also count as numbers, but True and False do not. NumPy's numbers are
    accepted. Numbers must fit float32, and whole numbers int32. Texts must not be
    empty.
    """
    kinds = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        name, kind = f"{prefix}{field.name}", kinds[field.name]
        value = getattr(config, field.name)
        if not _fits(value, kind):
            shown = repr(value)
            shown = shown if len(shown) < 80 else f"{shown[:77]}..."
            raise InputError(f"{called(name)} is {shown}; it must be {_words(kind)}.")
        if dataclasses.is_dataclass(kind):
            check_types(value, f"{name}.", called)


def _fits(value: Any, kind: Any) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        # True == 1, so the types are compared too.
        return any(type(value) is type(choice) and value == choice for choice in inner)
    if origin in (Union, UnionType):
        return any(_fits(value, choice) for choice in inner)
    if origin is tuple and inner[1:] == (Ellipsis,):
        return isinstance(value, tuple) and all(_fits(x, inner[0]) for x in value)
    if origin is tuple:
        return (
            isinstance(value, tuple)
            and len(value) == len(inner)
            and all(map(_fits, value, inner))
        )
    if kind is float:
        # NaN and infinity fail this comparison.
        return _is_number(value, Real) and (
            value == 0 or LEAST_FLOAT <= abs(value) <= LARGEST_FLOAT
        )
    if kind is int:
        return _is_number(value, Integral) and abs(value) <= LARGEST
    if kind is str:
        return isinstance(value, str) and value != "" and "\0" not in value
    return isinstance(value, kind)


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def is_count(value: Any) -> bool:
    """Return True for a positive whole number."""
    return _is_number(value, Integral) and value > 0


def _words(kind: Any) -> str:
    """Describe the values of a type in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    if origin in (Union, UnionType):
        return " or ".join(map(_words, inner))
    if origin is tuple and inner[1:] == (Ellipsis,):
        return f"a tuple of values, each {_words(inner[0])}"
    if origin is tuple:
        return f"a tuple of {len(inner)} values, each {_words(inner[0])}"
    return WORDS.get(kind) or f"of type {kind.__name__}"
