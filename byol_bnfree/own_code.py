"""Loads functions from users' own files: `FILE:FUNCTION`."""

import ast
import functools
import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from byol_bnfree.errors import InputError
from byol_bnfree.files import expanded


class _Fresh(SourceFileLoader):
    """Compiles a file as it is now.

    Python keeps compiled files. It takes an edit within a second that keeps the size of
    the file for the old file.
    """

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def load_function(where: str, setting: str) -> Callable[..., Any]:
    """Return the function that `FILE:FUNCTION` names.

    The file is executed, unless it has been before and is still the same. A file that
    is edited in the course of a program thus counts as it is now.

    Args:
      where: the value of a setting.
      setting: the name of the setting, for messages.

    Raises:
      InputError: if there is no such file or function, or the file fails.
    """
    where = os.path.expanduser(where)
    file, _, name = where.rpartition(":")
    if not file or not name.isidentifier():
        path = where.rstrip(":") if os.path.isfile(where.rstrip(":")) else "networks.py"
        raise InputError(
            f"{setting} is {where!r}; it must be FILE:FUNCTION, such as "
            f"{path}:{name if name.isidentifier() else 'encoder'}."
        )
    if not os.path.isfile(file):
        raise InputError(
            f"{setting} {where}: {file} is not a file; give the path of a Python file."
        )
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise InputError(
            f"{setting} {where}: {file} cannot be read ({error.strerror}); make it "
            f"readable."
        ) from error
    return _function(where, setting, content)


@functools.lru_cache(maxsize=64)  # the same function object keeps its compiled code
def _function(where: str, setting: str, content: bytes) -> Callable[..., Any]:
    """Execute a file, and return a function of it. `content` tells it from others."""
    del content
    file, _, name = where.rpartition(":")
    name_of_module = f"own_code_{Path(file).stem}"
    spec = importlib.util.spec_from_file_location(name_of_module, file)
    if spec is None or spec.loader is None:
        raise InputError(f"{setting} {where}: {file} is not a Python file.")
    if isinstance(spec.loader, SourceFileLoader):
        spec.loader = _Fresh(name_of_module, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name_of_module] = module  # dataclasses look up their module there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(
            f"{setting} {where}: the file fails with {type(error).__name__}: {error}; "
            f"repair it."
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        names = [n for n, v in vars(module).items() if callable(v) and n[0] != "_"]
        raise InputError(
            f"{setting} {where}: {file} has no function {name!r}; it has "
            f"{', '.join(names) or 'none'}."
        )
    return function


def code_of(config: Any) -> tuple[str, ...]:
    """Return a checksum for each of the user's files that a configuration names.

    It covers the program without comments and blank lines. It does not cover other
    files that the program imports.
    """
    named = {"model": config.encoder, "augment.function": config.augment.function}
    found = []
    for setting, where in named.items():
        file = expanded((where or "").rpartition(":")[0])
        if file.is_file():
            try:
                program = ast.unparse(ast.parse(file.read_bytes()))
            except (SyntaxError, ValueError):  # reported when the file is executed
                continue
            digest = hashlib.sha256(program.encode(errors="replace")).hexdigest()
            found.append(f"{setting} {digest[:16]}")
    return tuple(found)


def changed_code(saved: Sequence[str], config: Any) -> str | None:
    """Name the files that have changed since `saved` was made; None if none has."""
    before = dict(text.split() for text in saved)
    now = dict(text.split() for text in code_of(config))
    files = {"model": config.encoder, "augment.function": config.augment.function}
    changed = [
        files[setting].rpartition(":")[0]
        for setting in before.keys() & now.keys()
        if before[setting] != now[setting]
    ]
    if not changed:
        return None
    return f"{' and '.join(sorted({*changed}))} has changed since the run began"


def full_path(where: str) -> str:
    """Return `FILE:FUNCTION` with an absolute path."""
    file, colon, name = where.rpartition(":")
    return f"{os.path.abspath(expanded(file))}{colon}{name}" if file else where
