"""Reads command lines with tyro. Its help texts fill their lines.

The string under a field of a dataclass is its help text. tyro keeps the line breaks of
these strings, because their lines are indented. On a terminal they would be ragged.
"""

import dataclasses
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructTypeInfo,
)

Settings = TypeVar("Settings")
_FLAG = re.compile(r"--[A-Za-z]")
HelpText = str | Callable[[], str | None] | None


def cli(kind: type[Settings], **options: Any) -> Settings:
    """Act as `tyro.cli`: parse a command line into a dataclass."""
    return tyro.cli(kind, registry=rules(), **{"prog": _command()} | options)


def given_twice(argv: Sequence[str]) -> list[str]:
    """Return a sentence for each flag that has several values, of which one counts.

    Commands print them. Programs may give a flag and then one that replaces it.
    """
    values: dict[str, list[str]] = {}
    for name, value in _flags_of(argv):
        values.setdefault(name, []).append(value)
    times = {2: "twice"}
    return [
        f"--{name} is given {times.get(len(given)) or f'{len(given)} times'} "
        f"({', '.join(given)}); the last one counts."
        for name, given in values.items()
        if len({*given}) > 1
    ]


def _flags_of(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the name of each flag and its values. --no-x is the flag x with False."""
    words = [index for index, word in enumerate(argv) if _FLAG.match(word)]
    for start, stop in itertools.pairwise([*words, len(argv)]):
        name, equals, value = argv[start][2:].partition("=")
        name, own = name.replace("_", "-"), [value] * bool(equals)
        value = " ".join([*own, *argv[start + 1 : stop]])
        if value or equals:
            yield name, value
        else:
            group, dot, last = name.rpartition(".")
            no = last.startswith("no-")
            yield f"{group}{dot}{last.removeprefix('no-')}", str(not no)


def _command() -> str | None:
    """Return `python -m MODULE` as it was typed; None for a file."""
    spec = sys.modules["__main__"].__spec__
    return spec and f"python -m {spec.name.removesuffix('.__main__')}"


def rules() -> ConstructorRegistry:
    """Return tyro's rules with joined lines in help texts, and without empty paths."""
    registry = ConstructorRegistry()
    asking = False

    @registry.primitive_rule
    def not_empty(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        """Return how a path is read; None leaves other types to tyro."""
        if info.type not in (Path, Path | None):
            return None
        optional = info.type is not Path
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="{None}|PATH" if optional else "PATH",
            instance_from_str=lambda texts: (
                None if optional and texts == ["None"] else _path(*texts)
            ),
            is_instance=lambda value: isinstance(value, Path) or value is None,
            str_from_instance=lambda path: [str(path)],
        )

    @registry.struct_rule
    def with_joined_lines(info: StructTypeInfo) -> StructConstructorSpec | None:
        """Return the fields of a dataclass; None leaves other types to tyro."""
        nonlocal asking
        if asking or not dataclasses.is_dataclass(info.type):
            return None
        # tyro's own rule makes the fields. It asks this rule again, which then passes.
        asking = True
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            asking = False
        if not isinstance(spec, StructConstructorSpec):
            return None
        fields = tuple(
            dataclasses.replace(field, helptext=partial(_joined, field.helptext))
            for field in spec.fields
        )
        return dataclasses.replace(spec, fields=fields)

    return registry


def _path(text: str) -> Path:
    """Return a path. Python reads an empty one, as of $UNSET, as the present folder."""
    if not text:
        raise ValueError("the path is empty; give one, such as . for this folder.")
    return Path(text)


def _joined(text: HelpText) -> str | None:
    """Join the lines of each paragraph. The text may be a function: tyro reads late."""
    text = text() if callable(text) else text
    return text and re.sub(r"(?<!\n)\n[ \t]*(?=\S)", " ", text)
