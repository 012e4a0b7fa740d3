"""CPU kernels in C++: compiled once for a machine, and made known to JAX.

`calls.cc` is what XLA calls: convolutions (`winograd.h`, `direct.h`) and normalizations
(`normalization.h`). Products and the other convolutions are oneDNN's.
"""

import ctypes
import functools
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax

TARGETS = {
    name: f"byol_{name}"
    for name in (
        "conv_output",
        "conv_input_gradient",
        "conv_kernel_gradient",
        "normalize",
        "normalize_gradient",
    )
}
_FOLDER = Path(__file__).parent
_SOURCE = _FOLDER / "calls.cc"
_LIBRARY, _HEADERS = "onednn-cpu-gomp", "onednn-devel-cpu-gomp"
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-fopenmp")


@functools.cache
def register() -> str | None:
    """Makes `TARGETS` callable on CPUs; None, or why that cannot be.

    The first call on a machine takes about 10 seconds and leaves the compiled file in
    `$XDG_CACHE_HOME/byol_bnfree` (`~/.cache/byol_bnfree`).
    """
    try:
        library = _file(_LIBRARY, "libdnnl.so.3")
        headers = _file(_HEADERS, "oneapi/dnnl/dnnl.hpp").parents[2]
    except FileNotFoundError:
        return 'oneDNN is not installed (pip install "byol_bnfree[cpu]")'
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        return "there is no C++ compiler (c++, or the one that $CXX names)"
    try:
        compiled = ctypes.CDLL(str(_compiled(compiler, library, headers)))
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        return f"the CPU kernels could not be compiled ({last})"
    except OSError as error:
        return f"the CPU kernels could not be loaded ({error})"
    for name in TARGETS.values():
        capsule = jax.ffi.pycapsule(getattr(compiled, name))
        jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    return None


def _file(package: str, end: str) -> Path:
    """The file of an installed package whose path ends so."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError(package) from None
    for file in files:
        if str(file).endswith(end):
            return Path(file.locate()).resolve()
    raise FileNotFoundError(end)


def _compiled(compiler: str, library: Path, headers: Path) -> Path:
    """The compiled file, from the cache or new; processes may do this side by side."""
    include = jax.ffi.include_dir()
    files = (*_FOLDER.glob("*.h"), _SOURCE)
    sources = (file.read_text() for file in sorted(files))
    parts = (*sources, include, str(library), compiler, jax.__version__, _cpu())
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "byol_bnfree"
    target = folder / f"native-{digest}.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            output = Path(scratch) / target.name
            command = [compiler, *_FLAGS, "-isystem", include, "-isystem", str(headers)]
            command += [str(_SOURCE), "-o", str(output), str(library)]
            command.append(f"-Wl,-rpath,{library.parent}")
            subprocess.run(command, check=True, capture_output=True, text=True)
            output.replace(target)
    return target


def _cpu() -> str:
    """The instructions of this CPU: `-march=native` is of the machine that compiled."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line for line in lines if line.startswith("flags")), "")
