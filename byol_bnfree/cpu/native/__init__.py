"""CPU kernels in C++. They are compiled once per machine and registered in JAX.

`calls.cc` contains the functions that XLA calls: convolutions (`winograd.h`,
`direct.h`) and normalizations (`normalization.h`). oneDNN computes products and other
convolutions.
"""

import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax

from byol_bnfree.machine.user_cache import cache_folder, instructions

TARGETS = {
    name: f"byol_{name}"
    for name in (
        "conv_output",
        "conv_input_gradient",
        "conv_kernel_gradient",
        "moments",
        "normalize",
        "normalize_gradient",
    )
}
_FOLDER = Path(__file__).parent
_SOURCE = _FOLDER / "calls.cc"
_LIBRARY, _HEADERS = "onednn-cpu-gomp", "onednn-devel-cpu-gomp"
_KEPT = 16
"""Compiled files that stay in the cache. Several kinds of CPUs may share a home."""
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-fopenmp")


@functools.cache
def register() -> str | None:
    """Make `TARGETS` callable on CPUs. Return None, or the reason if it fails.

    The first call on a machine compiles for about 10 seconds. It stores the file in
    `$XDG_CACHE_HOME/byol_bnfree` (`~/.cache/byol_bnfree`). If that folder cannot be
    used, every process compiles into a temporary folder, which it deletes at once.
    """
    try:
        library = _file(_LIBRARY, "libdnnl.so.3")
        headers = _file(_HEADERS, "oneapi/dnnl/dnnl.hpp").parents[2]
    except FileNotFoundError:
        return 'oneDNN is not installed (pip install ".[cpu]")'
    try:
        compiler = shlex.split(os.environ.get("CXX") or "c++")
    except ValueError as error:
        return f"$CXX is not a command ({error})"
    if not compiler or shutil.which(compiler[0]) is None:
        return "there is no C++ compiler (c++, or the one that $CXX names)"
    try:
        compiled = _loaded(_Build(compiler, library, headers))
        for name in TARGETS.values():
            capsule = jax.ffi.pycapsule(getattr(compiled, name))
            jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    except subprocess.CalledProcessError as error:
        return f"the CPU kernels could not be compiled ({_reason(error.stderr)})"
    except Exception as error:  # any error: a missing speed-up must not end a run
        return f"the CPU kernels could not be loaded ({error})"
    return None


def _reason(said: str) -> str:
    """Return the compiler's first error, without the folders of temporary files."""
    lines = said.strip().splitlines() or ["no message"]
    errors = [line for line in lines if "error" in line.lower()]
    return re.sub(r"\S*/tmp\S*/", "", (errors or lines[-1:])[0])


def _file(package: str, end: str) -> Path:
    """Return the file of an installed package whose path has this ending."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError(package) from None
    for file in files:
        if str(file).endswith(end):
            return Path(file.locate()).resolve()
    raise FileNotFoundError(end)


class _Build(NamedTuple):
    """The sources, the compiler and its flags."""

    compiler: list[str]
    library: Path
    headers: Path

    def name(self) -> str:
        """Return a file name that changes with everything the compiled file depends on.

        The library and the headers enter by their package's version, and the compiler
        by its `--version`.
        """
        files = sorted((*_FOLDER.glob("*.h"), _SOURCE))
        version = [*self.compiler, "--version"]
        parts = (
            *(file.read_text() for file in files),
            *(str(self.library), str(self.headers), jax.ffi.include_dir()),
            *(importlib.metadata.version(p) for p in (_LIBRARY, _HEADERS, "jaxlib")),
            subprocess.run(version, check=True, capture_output=True, text=True).stdout,
            *(*self.compiler, *_FLAGS, instructions()),
        )
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        return f"native-{digest}.so"

    def compile(self, output: Path) -> None:
        """Write the compiled file."""
        command = [*self.compiler, *_FLAGS, "-isystem", jax.ffi.include_dir()]
        command += ["-isystem", str(self.headers), str(_SOURCE), "-o", str(output)]
        # -Wl would cut a path at its commas.
        rpath = ["-Xlinker", "-rpath", "-Xlinker", str(self.library.parent)]
        command += [str(self.library), *rpath]
        subprocess.run(command, check=True, capture_output=True, text=True)


def _loaded(build: _Build) -> ctypes.CDLL:
    """Load the compiled code from the cache, which first gets it if it lacks it.

    A cache that is read-only, full, missing, or mounted without execution is done
    without. The code is then loaded from the temporary folder where it was compiled.
    """
    cache, name = cache_folder(), build.name()
    if cache is not None:
        with contextlib.suppress(OSError):  # it is missing or damaged
            found = ctypes.CDLL(str(cache / name))
            with contextlib.suppress(OSError):  # the files last used are kept
                os.utime(cache / name)
            return found
    with tempfile.TemporaryDirectory() as folder:  # a loaded library may be deleted
        compiled = Path(folder) / name
        build.compile(compiled)
        if cache is not None:
            with contextlib.suppress(OSError):
                return ctypes.CDLL(str(_stored(compiled, cache)))
        return ctypes.CDLL(str(compiled))


def _loads(file: Path) -> bool:
    try:
        ctypes.CDLL(str(file))
    except OSError:
        return False
    return True


def _stored(compiled: Path, cache: Path) -> Path:
    """Copy the file to the cache, and return its path there. Delete the oldest ones.

    Several processes may do so at once. The file is flushed to disk before it gets its
    name, so a power cut leaves no partial file.
    """
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / compiled.name
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        copy = Path(shutil.copy(compiled, scratch))
        with open(copy, "rb") as file:
            os.fsync(file.fileno())
        # Another machine may have mapped a file of this name, so it is not replaced
        # unless it could not be loaded here.
        try:
            os.link(copy, target)
        except FileExistsError:
            if not _loads(target):
                copy.replace(target)
        except OSError:  # a file system without links
            copy.replace(target)
    ages = []
    for file in cache.glob("native-*.so"):
        with contextlib.suppress(FileNotFoundError):  # another process may delete too
            ages.append((file.stat().st_mtime_ns, file))
    for _, file in sorted(ages)[:-_KEPT]:
        file.unlink(missing_ok=True)
    return target
