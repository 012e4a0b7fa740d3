"""The folder of a run: made, checked, locked, and files that are whole or absent."""

import contextlib
import datetime
import fcntl
import json
import logging
import math
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from byol_bnfree.errors import InputError

_log = logging.getLogger(__name__)
_NAME_BYTES = 255  # the longest file name Linux allows


def prepare_workdir(path: str | Path | None, name_hint: str) -> Path:
    """Creates the run's folder, or checks that an existing one can be written.

    Every process of a run calls this; all get the same folder.

    Args:
      path: the folder; None makes a new `runs/<date>-<time>-<name_hint>`.
      name_hint: a few words for the name; odd characters become "-".

    Raises:
      InputError: a file is in the way, the folder is not writable, the disk is full.
    """
    try:
        folder = _new_run(name_hint) if path is None else Path(os.path.expanduser(path))
        folder.mkdir(parents=True, exist_ok=True)
        _try_writing(folder)
    except FileExistsError as error:
        raise InputError(
            f"{error.filename} is a file where the work folder should be; "
            "choose another --workdir."
        ) from None
    except OSError as error:
        raise InputError(
            f"Cannot write to the work folder {path or 'runs'} ({error.strerror}); "
            "make room, allow writing, or choose another --workdir."
        ) from None
    return folder


def _new_run(name_hint: str) -> Path:
    """A folder that did not exist; process 0 makes it and tells the others."""
    name = ""
    if jax.process_index() == 0:
        now = f"{datetime.datetime.now():%Y%m%d-%H%M%S}"
        hint = re.sub(r"[^\w.]+", "-", name_hint, flags=re.ASCII).strip("-")
        name = _first_free(Path("runs"), f"{now}-{hint[:64]}")
    buffer = np.frombuffer(name.encode().ljust(_NAME_BYTES), np.uint8)
    name = np.asarray(multihost_utils.broadcast_one_to_all(buffer), np.uint8)
    return Path("runs") / name.tobytes().decode().rstrip()


def _first_free(root: Path, name: str) -> str:
    """Makes root/name, or root/name-2, -3, ... if runs start in the same second."""
    root.mkdir(parents=True, exist_ok=True)
    candidate, count = name, 1
    while True:
        try:
            (root / candidate).mkdir()
            return candidate
        except FileExistsError:
            count += 1
            candidate = f"{name}-{count}"


def _try_writing(folder: Path) -> None:
    """Writes and removes 1 MiB: permission bits know nothing of full disks."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".write-test-") as file:
        file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def lock_workdir(folder: Path) -> Iterator[None]:
    """Holds `folder/lock` so that no second run writes here; process 0 calls it.

    The kernel drops a flock when its process ends, however it ends, so nobody has to
    clear the lock of a killed run. The file itself stays and names the last holder.

    Raises:
      InputError: another process holds the lock.
    """
    with open(folder / "lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InputError(
                f"{folder} is in use by {file.read().strip() or 'another process'}; "
                "wait for it, stop it, or choose another --workdir."
            ) from None
        except OSError as error:  # some network file systems have no flock
            _log.warning("%s is not locked: %s", folder, error.strerror)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def compare_config(
    saved: dict[str, Any], now: dict[str, Any], free: frozenset[str] | set[str]
) -> list[str]:
    """Settings that differ between a run's config.json and the one asked for now.

    Args:
      saved: nested dict, as read from JSON.
      now: nested dict, as from `dataclasses.asdict`.
      free: dotted names that may change on resume; "run" covers all of "run.*".

    Returns:
      One "optim.momentum: 0.9 -> 0.99" per field that may not change.
    """
    old, new = _flatten(strict(saved)), _flatten(strict(now))
    return [
        f"{name}: {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
        for name in old | new
        if old.get(name, "absent") != new.get(name, "absent")
        and not any(name == f or name.startswith(f + ".") for f in free)
    ]


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def strict(value: Any) -> Any:
    """`value` as strict JSON holds it: NaN and infinities become None (null)."""
    if isinstance(value, dict):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy and JAX arrays and scalars
        return strict(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def write_json(path: Path, obj: Any) -> None:
    """Writes `obj` as strict JSON: after a crash the file is the old or the new one."""
    text = json.dumps(strict(obj), indent=2, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces `path` in one step, on disk before this returns. Raises OSError."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable; fsync of a file does not cover its name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
