"""The work folder of a run: created, checked and locked."""

import contextlib
import datetime
import fcntl
import logging
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jax.experimental import multihost_utils

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.names import printable
from byol_bnfree.data.sources import holds
from byol_bnfree.errors import InputError
from byol_bnfree.files import expanded, why_no_folder
from byol_bnfree.training.distributed import is_primary

_log = logging.getLogger(__name__)
_NAME_BYTES = 255  # the longest file name Linux allows


def prepare_workdir(path: str | Path | None, name_hint: str) -> Path:
    """Create the run's folder, or check that an existing one can be written.

    Every process of a run calls this, and all get the same folder.

    Args:
      path: the folder. None makes a new `runs/<date>-<time>-<name_hint>`.
      name_hint: a few words for the name; unusual characters become "-".

    Raises:
      InputError: if a file is in the way, the folder is not writable, or the disk is
        full.
    """
    try:
        if path is not None:
            check_utf8(path)
        folder = _new_run(name_hint) if path is None else expanded(path)
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


def check_place(path: str | Path | None) -> None:
    """Raise `InputError` if the run's folder cannot be made or written. Make nothing.

    `path` is as in `prepare_workdir`, which is the final judge.
    """
    if path is not None:
        check_utf8(path)
    why = why_no_folder(expanded("runs" if path is None else path))
    if why is not None:
        raise InputError(
            f"the work folder cannot be {path or 'runs'}: {why}; choose another "
            f"--workdir, or make this one a folder that can be written to."
        )


def check_outside(config: TrainConfig) -> None:
    """Raise `InputError` for a new run's folder in its folder of pictures.

    Runs would take each other's figures for pictures. A run that is there already may
    go on: its folder is not listed.
    """
    folder = expanded("runs" if config.workdir is None else config.workdir)
    if holds(config, folder) and not (folder / "config.json").exists():
        raise InputError(
            f"the work folder {folder} would lie in the folder of pictures "
            f"{config.dataset}; "
            f"choose a --workdir outside of it."
        )


def check_utf8(path: str | Path) -> None:
    """`InputError` for a folder in which checkpoints cannot be.

    The library that writes them takes names in UTF-8 only.
    """
    whole = os.path.abspath(expanded(path))
    try:
        whole.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"the work folder {printable(whole)} has a name that is not UTF-8, and "
            f"checkpoints cannot be kept there; choose another --workdir."
        ) from None


def _new_run(name_hint: str) -> Path:
    """Choose a folder that did not exist. Process 0 makes it and tells the others."""
    name = ""
    if is_primary():
        now = f"{datetime.datetime.now():%Y%m%d-%H%M%S}"
        hint = re.sub(r"[^\w.]+", "-", name_hint, flags=re.ASCII).strip("-")
        name = _first_free(Path("runs"), f"{now}-{hint[:64]}")
    buffer = np.frombuffer(name.encode().ljust(_NAME_BYTES), np.uint8)
    name = np.asarray(multihost_utils.broadcast_one_to_all(buffer), np.uint8)
    return Path("runs") / name.tobytes().decode().rstrip()


def _first_free(root: Path, name: str) -> str:
    """Make root/name, or root/name-2, -3, ... if runs start in the same second."""
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
    """Write and remove 1 MiB. Permission bits do not reveal a full disk."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".write-test-") as file:
        file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def lock_workdir(folder: Path) -> Iterator[None]:
    """Hold `folder/lock`, so that no second run writes here. Process 0 calls it.

    The kernel releases the lock when the process ends in any way, so nobody has to
    clear the lock of a killed run. The file stays and names the last holder.

    Raises:
      InputError: if another process holds the lock.
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
