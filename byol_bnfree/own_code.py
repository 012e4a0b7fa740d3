"""Executes users' own Python files, and loads functions of them: `FILE:FUNCTION`."""

import ast
import contextlib
import functools
import hashlib
import importlib.util
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

from byol_bnfree.errors import InputError, first_line
from byol_bnfree.files import expanded

_DECIDES_BY_VALUE = (
    "ConcretizationTypeError",
    "TracerArrayConversionError",
    "TracerBoolConversionError",
    "TracerIntegerConversionError",
)
"""JAX's errors for Python code that needs the values of traced arrays."""


class _Fresh(SourceFileLoader):
    """Compiles a file as it is now.

    Python keeps compiled files. It takes an edit within a second that keeps the size of
    the file for the old file.
    """

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def execute(file: str, what: str) -> ModuleType:
    """Execute a Python file as it is now, and return its module.

    Args:
      file: the path.
      what: what to call the file in messages: the setting and its value.

    Raises:
      InputError: if it is no Python file, or it fails.
    """
    with repaired_by_the_user(what, file):
        return _run(file)


def _run(file: str) -> ModuleType:
    """Execute a Python file; `InputError` if it is none. Other errors are its own.

    Files of one name in other folders are other modules. The name of a module is the
    same in every process, so that its classes can be pickled.
    """
    place = hashlib.sha256(os.fsencode(os.path.abspath(file))).hexdigest()[:16]
    stem = re.sub(r"\W", "_", Path(file).stem)
    name = f"own_code_{stem}_{place}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InputError(f"{file} is not a Python file; give the path of one.")
    if isinstance(spec.loader, SourceFileLoader):
        spec.loader = _Fresh(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module there
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def repaired_by_the_user(
    what: str, file: str, arguments: str | None = None
) -> Iterator[None]:
    """Turn any error of the user's code into an InputError that begins with `what`.

    It names the last line of `file` that led to the error. `arguments` are those that
    the user's function is called with, in words.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{what} fails{in_line(error, file)} with {type(error).__name__}: "
            f"{first_line(error).rstrip('.')}; {_advice(error, file, arguments)}."
        ) from error


def _advice(error: Exception, file: str, arguments: str | None) -> str:
    """Say what to do about an error of the user's code."""
    if type(error).__name__ in _DECIDES_BY_VALUE:
        return "values are not known while it is compiled, so use jnp.where or lax.cond"
    # The function was not even entered.
    if arguments and isinstance(error, TypeError) and not in_line(error, file):
        return f"it is called with ({arguments})"
    return "repair the file"


def in_line(error: Exception, file: str) -> str:
    """Return " in line N", the last line of `file` that led to an error; "" if none."""
    path = os.path.abspath(expanded(file))
    frames = traceback.walk_tb(error.__traceback__)
    lines = [n for frame, n in frames if _file_of(frame) == path]
    return f" in line {lines[-1]}" if lines else ""


def _file_of(frame: FrameType) -> str:
    return os.path.abspath(frame.f_code.co_filename)


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
    what = f"{setting} {where}"
    with repaired_by_the_user(what, file):
        module = _module(os.path.abspath(file), content)
    sys.modules[module.__name__] = module  # pickle looks up classes there
    function = getattr(module, name, None)
    if not callable(function):
        names = [n for n, v in vars(module).items() if callable(v) and n[0] != "_"]
        raise InputError(
            f"{what}: {file} has no function {name!r}; it has "
            f"{', '.join(names) or 'none'}."
        )
    return function


@functools.lru_cache(maxsize=64)  # the same function object keeps its compiled code
def _module(file: str, content: bytes) -> ModuleType:
    """Execute a file once for all of its functions. `content` tells it from others."""
    del content
    return _run(file)


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


def model_code(config: Any) -> tuple[str, ...]:
    """Return the checksum of the file of --model, as in `code_of`; () without one."""
    return tuple(text for text in code_of(config) if text.startswith("model "))


def changed_code(
    saved: Sequence[str], config: Any, since: str = "the run began"
) -> str | None:
    """Name the files that have changed since `saved` was made; None if none has.

    `since` says in words when that was.
    """
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
    return f"{' and '.join(sorted({*changed}))} has changed since {since}"


class Executed:
    """Executes the file of --model when it is unpickled.

    Pickles are read in order. What follows it may have classes of the file.
    """

    def __init__(self, config: Any):
        self._config = config

    def __reduce__(self) -> tuple:
        return _execute_again, (self._config, model_code(self._config))


def _execute_again(config: Any, code: tuple[str, ...]) -> None:
    if changed := changed_code(code, config, "the encoder was pickled"):
        warnings.warn(f"{changed}; the encoder may differ from it.", stacklevel=2)
    load_function(config.encoder, "model")


def full_path(where: str) -> str:
    """Return `FILE:FUNCTION` with an absolute path."""
    file, colon, name = where.rpartition(":")
    return f"{os.path.abspath(expanded(file))}{colon}{name}" if file else where
