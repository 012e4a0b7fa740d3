"""The user's cache folder, and the compiled programs in it."""

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache

LARGEST, KEPT = 2 * 2**30, 2**30
"""Bytes of compiled programs: above the first, old ones are deleted to the second."""


def cache_folder() -> Path | None:
    """Return our folder in $XDG_CACHE_HOME or ~/.cache; None without a home."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "byol_bnfree"
    try:
        return Path.home() / ".cache" / "byol_bnfree"
    except RuntimeError:  # neither $HOME nor an entry in passwd
        return None


def instructions() -> str:
    """Return the instruction sets of this CPU; "" if the system does not list them."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return ""


@contextlib.contextmanager
def compiled_programs_kept(setting: str | None) -> Iterator[Path | None]:
    """Let JAX store compiled programs in a folder. Yield the folder, or None.

    "auto" keeps JAX's own setting (JAX_COMPILATION_CACHE_DIR) if the user made one.
    Otherwise it takes the user's cache folder if that can be written. None stores
    nothing. If the folder fails later, JAX warns and compiles again.

    The folder is a setting of the whole process, so the old value is restored at the
    end.
    """
    before = jax.config.jax_compilation_cache_dir
    folder = _folder(setting, before)
    _store_in(str(folder) if folder else None)
    try:
        yield folder
    finally:
        _store_in(before)


def _store_in(folder: str | None) -> None:
    """Let JAX store programs in `folder`; None stores nothing.

    JAX opens the first folder that it is given, and would keep it.
    """
    if folder != jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", folder)
        reset_cache()


def _folder(setting: str | None, of_jax: str | None) -> Path | None:
    if setting is None:
        return None
    if setting != "auto":
        return Path(os.path.expanduser(setting))
    if of_jax:
        return Path(of_jax)
    cache = cache_folder()
    if cache is None:
        return None
    # Machines with different CPUs may share a home, so programs are stored per CPU
    # type.
    kind = hashlib.sha256(instructions().encode()).hexdigest()[:8]
    folder = cache / f"programs-{kind}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        _delete_oldest(cache)
    except OSError:  # read-only, full, or a file in the way; the run goes on without
        return None
    return folder


def _delete_oldest(cache: Path) -> None:
    """Delete the oldest files down to `KEPT` bytes, if there are over `LARGEST`.

    Files of all CPU types count, because an update of the system may be a new type. On
    GPUs there is also a folder with the results of XLA's autotuning.
    """
    found = []
    for entry in cache.glob("programs-*/**/*"):
        with contextlib.suppress(FileNotFoundError):  # another run may delete them too
            status = entry.stat()
            if stat.S_ISREG(status.st_mode):
                found.append((status.st_mtime, status.st_size, entry))
    left = sum(size for _, size, _ in found)
    if left <= LARGEST:
        return
    for _, size, entry in sorted(found):
        if left <= KEPT:
            return
        entry.unlink(missing_ok=True)
        left -= size
