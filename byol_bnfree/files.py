"""Files that survive a crash whole or not at all, and strict JSON."""

import contextlib
import fcntl
import hashlib
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from byol_bnfree.errors import InputError, why_not_read

RESTORE = "restore it"  # a run without its config.json cannot resume
LONGEST = 150  # bytes of a name; most systems allow 255, and names in parts of it


def file_name(text: str) -> str:
    """Return a name for a file. A long one is cut, and ends in a checksum of `text`."""
    name = text.replace("/", "-")
    written = os.fsencode(name)  # names of folders may not be UTF-8
    if len(written) <= LONGEST:
        return name
    digest = hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
    return f"{written[:LONGEST].decode(errors='ignore')}-{digest}"


def strict(value: Any) -> Any:
    """Convert `value` to strict JSON: NaN and infinities become None (null)."""
    if isinstance(value, dict):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy and JAX arrays and scalars
        return strict(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def flatten(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten nested dicts. Names are joined by ".", and an empty dict has none."""
    flat = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{above}{name}.")
        else:
            flat[above + name] = value
    return flat


def expanded(path: str | Path) -> Path:
    """Return a path that a user gave, with the home folder for `~` or `~name`.

    A `~name` without such a user is the name of a file, as in a shell.
    """
    return Path(os.path.expanduser(path))


def writable(path: str) -> Path:
    """Return the path of --out. Raise `InputError` if no file can be written there."""
    file = expanded(path)
    in_the_way = file.exists() and not file.is_file()  # a folder, or a device
    if in_the_way or not os.access(file.parent, os.W_OK):
        raise InputError(
            f"--out {path} cannot be written; name a file in a folder that exists and "
            f"can be written to."
        )
    return file


def why_no_folder(path: Path) -> str | None:
    """Return why there can be no folder that is written to; None if there can be.

    The folder need not exist. Nothing is made.
    """
    whole = path.absolute()
    there = next(place for place in (whole, *whole.parents) if os.path.lexists(place))
    if not os.path.isdir(there):
        return f"{there} is a file"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{there} cannot be written to"
    return None


def read_json(
    path: Path, remedy: str = "restore or delete it"
) -> dict[str, Any] | None:
    """Read a JSON file; None if it does not exist.

    Raises:
      InputError: if it cannot be read, or is no JSON object. `remedy` says what to do.
    """
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({why_not_read(error)}); make it readable, or give "
            f"another path."
        ) from None
    except ValueError:
        raise InputError(f"{path} is not JSON; {remedy}.") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no JSON object; {remedy}.")
    return found


def last_json(output: str) -> Any:
    """Read the JSON in the last line of what a program has printed.

    Raises:
      ValueError: if it is not JSON.
      IndexError: if there is no line.
    """
    return json.loads(output.strip().splitlines()[-1])


def write_json(path: Path, obj: Any) -> None:
    """Write `obj` as strict JSON. After a crash the file is the old or the new one."""
    text = json.dumps(strict(obj), indent=2, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def read_rows(path: Path, mend: bool = False) -> list[dict[str, Any]]:
    """Return the rows of a JSON-lines file; [] if there is no file.

    A last row that a kill cut off is left out.

    Args:
      path: the file.
      mend: removes a row that was cut off from the file too. Only its writer may do so.

    Raises:
      InputError: for a damaged line.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if mend and whole != data:
        os.truncate(path, len(whole))
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise InputError(
            f"{path} has a line that is not JSON ({error}); repair or remove it."
        ) from error


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append a row as strict JSON, whole or not at all. It is then on disk.

    A row that a crash cut off before is removed.
    The folder is made if there is none. Programs that append together wait for each
    other.

    Raises:
      OSError: if the row is not written. The file is then as it was.
    """
    line = json.dumps(strict(row), allow_nan=False).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as file:
        _lock(file)
        _mend_end(path)
        append_whole(file, line)
        os.fsync(file.fileno())


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a file, which is made if there is none. Programs wait for each other.

    The lock ends with the process.
    """
    with open(path, "ab") as file:
        _lock(file)
        yield


def _lock(file: BinaryIO | io.FileIO) -> None:
    """Lock an open file. On a file system without locks nobody waits."""
    with contextlib.suppress(OSError):  # some network file systems have no flock
        fcntl.flock(file, fcntl.LOCK_EX)


def _mend_end(path: Path) -> None:
    """End a file of rows with a newline, so that the next row has a line of its own.

    A row that a crash cut off is removed. A whole row without a newline, as editors
    leave it, gets one.
    """
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole == len(data):
        return
    try:
        json.loads(data[whole:])
    except ValueError:
        os.truncate(path, whole)
        return
    with open(path, "ab", buffering=0) as file:
        file.write(b"\n")


def append_whole(file: io.FileIO, line: bytes) -> None:
    """Append a line whole or not at all. `file` is opened without a buffer.

    Raises:
      OSError: if the line is not written. The file is then as it was.
    """
    size = os.fstat(file.fileno()).st_size
    try:
        while line:  # a nearly full disk takes a part, then rejects the rest
            line = line[file.write(line) :]
    except OSError:
        # A read-only disk also rejects the truncation. The first error matters.
        with contextlib.suppress(OSError):
            file.truncate(size)
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` in one step. It is on disk when this returns; else OSError."""
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file, which replaces `path` in one step once it is on disk.

    Raises:
      OSError: if it is not written. After any error `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def replacing_text(path: Path) -> Iterator[TextIO]:
    """Yield a new UTF-8 file as `replacing` does. Line ends stay as they are written.

    Raises:
      OSError: if it is not written. After any error `path` is as it was.
    """
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        yield text
        text.detach()  # flushes, and leaves the file open for `replacing`


def save_figure(path: Path, figure: Any) -> None:
    """Write a Matplotlib figure in one step, as `replacing` does.

    The ending of the path is the format. Without one it is PNG.

    Raises:
      OSError: if it is not written. `path` is then as it was.
      ValueError: for an ending that Matplotlib does not know.
    """
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix.removeprefix(".") or "png")


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to disk; fsync of a file does not cover its name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
