"""Reads the flags of many arms quickly.

The parser of a command line takes 50 ms for every arm, and the experiments have
hundreds. Arms differ in a few flags. So the parser reads what they share once, and
`--name=value` of plain types is then set here.
"""

import dataclasses
import functools
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from byol_bnfree.command_line import parse_args
from byol_bnfree.config import TrainConfig

FIRST = ("config", "norm")
"""Settings on which the defaults of others depend."""


class Plain(NamedTuple):
    """A flag as the path of its setting and the value."""

    path: tuple[str, ...]
    value: Any


@functools.cache
def parsed(flags: tuple[str, ...]) -> TrainConfig:
    """Return what `parse_args` returns for these flags, with the same errors."""
    first, plain = [], {}
    for flag in flags:
        found = _plain(flag)
        if found is None:
            first.append(flag)
        else:
            plain[found.path] = found.value  # as in the parser, the last one counts
    if any(not flag.startswith("--") or _path(flag) in plain for flag in first):
        return parse_args(flags)  # a value of its own word, or one setting in two forms
    try:
        return _with(_base(tuple(first)), plain)
    except ValueError:
        return parse_args(flags)  # for its message


def effective(flags: tuple[str, ...]) -> tuple[str, ...]:
    """Return flags without those that a later one replaces, as an arm's the recipe's.

    `train` would say that such a flag is given twice.
    """
    if not all(flag.startswith("--") for flag in flags):
        return flags  # a value of its own word belongs to the flag before it
    return tuple({_path(flag): flag for flag in flags}.values())


def forget() -> None:
    """Read recipes anew from now on."""
    parsed.cache_clear()
    _base.cache_clear()


@functools.cache
def _base(flags: tuple[str, ...]) -> TrainConfig:
    return parse_args(flags)


def _path(flag: str) -> tuple[str, ...]:
    name = flag.removeprefix("--").partition("=")[0]
    return tuple(name.replace("-", "_").split("."))


@functools.cache
def _plain(flag: str) -> Plain | None:
    """Return the setting of a flag; None if the parser must read it."""
    path, (_, given, text) = _path(flag), flag.partition("=")
    *groups, name = path
    if not flag.startswith("--") or path[0] in FIRST:
        return None
    kinds = _kinds(TrainConfig)
    for group in groups:
        kinds = _kinds(kinds.get(group))
    if not given and kinds.get(name) is bool:
        return Plain(path, True)
    if not given and kinds.get(name.removeprefix("no_")) is bool:
        return Plain((*groups, name.removeprefix("no_")), False)
    value = _value(text, kinds[name]) if given and name in kinds else None
    return None if value is None else Plain(path, value)


@functools.cache
def _kinds(of: Any) -> dict[str, Any]:
    """Return the types of a dataclass's settings. Others have none."""
    if not dataclasses.is_dataclass(of):
        return {}
    return get_type_hints(of, include_extras=True)


def _value(text: str, kind: Any) -> Any:
    """Return the value of a text; None if the type is not plain or has no such value.

    Plain types are int, float, str, a choice of texts, and one of these or None.
    """
    if get_origin(kind) in (Union, UnionType) and len(get_args(kind)) == 2:
        kind, other = get_args(kind)
        if other is not NoneType or text == "None":
            return None
    if get_origin(kind) is Literal:
        return text if text in get_args(kind) else None
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return None
    return text if kind is str else None


def _with(config: Any, settings: dict[tuple[str, ...], Any]) -> Any:
    """Return a dataclass with other settings, at any depth."""
    groups: dict[str, dict[tuple[str, ...], Any]] = {}
    for (name, *rest), value in settings.items():
        groups.setdefault(name, {})[tuple(rest)] = value
    changed = {
        name: below[()] if () in below else _with(getattr(config, name), below)
        for name, below in groups.items()
    }
    return dataclasses.replace(config, **changed)
