"""The user's cache folder, and the compiled programs in it."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax

LARGEST, KEPT = 2 * 2**30, 2**30
"""Bytes of compiled programs from which the oldest are deleted, and what then stays."""


def cache_folder() -> Path | None:
    """`$XDG_CACHE_HOME/byol_bnfree`, or in ~/.cache; None for a user without a home."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "byol_bnfree"
    try:
        return Path.home() / ".cache" / "byol_bnfree"
    except RuntimeError:  # neither $HOME nor an entry in passwd
        return None


def instructions() -> str:
    """The instructions of this CPU; "" where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return ""


@contextlib.contextmanager
def compiled_programs_kept(setting: str | None) -> Iterator[Path | None]:
    """JAX keeps what it compiles in a folder, which is yielded; None if in none.

    "auto" is JAX's own setting, if the user made one (JAX_COMPILATION_CACHE_DIR), and
    else a part of the user's cache folder, where that can be written. None is none. A
    folder that fails later costs a warning of JAX and a compilation.

    The folder is a setting of the whole process, so it is given back at the end.
    """
    before = jax.config.jax_compilation_cache_dir
    folder = _folder(setting, before)
    jax.config.update("jax_compilation_cache_dir", str(folder) if folder else None)
    try:
        yield folder
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


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
    # A home may be shared by machines whose CPUs differ: programs are of one kind.
    kind = hashlib.sha256(instructions().encode()).hexdigest()[:8]
    folder = cache / f"programs-{kind}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        _delete_oldest(folder)
    except OSError:  # read-only, full, or a file in the way: no reason to stop
        return None
    return folder


def _delete_oldest(folder: Path) -> None:
    """Down to `KEPT` bytes where there are more than `LARGEST`."""
    found = []
    for entry in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another run deletes them too
            status = entry.stat()
            found.append((status.st_mtime, status.st_size, entry))
    left = sum(size for _, size, _ in found)
    if left <= LARGEST:
        return
    for _, size, entry in sorted(found):
        if left <= KEPT:
            return
        entry.unlink(missing_ok=True)
        left -= size
