"""Versions, devices, machine and memory of this process, for environment.json."""

import contextlib
import importlib.metadata
import os
import platform
import resource
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax

from byol_bnfree import __version__
from byol_bnfree.files import read_json, strict, write_json
from byol_bnfree.machine.memory import machine_bytes
from byol_bnfree.training.changes import compare_config
from byol_bnfree.training.distributed import labelled
from byol_bnfree.training.restore import committed_steps

# fmt: off
_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy",
    "einops", "tensorflow-datasets", "array-record", "pillow",
    "onednn-cpu-gomp",
)
# fmt: on
CODE = ("*.py", "*.cc", "*.cpp", "*.h", "*.hpp", "*.toml")
"""Files of the repository that can change what a run computes."""
_MATTER = (
    *("commit", "python", "packages", "kernels", "backend"),
    *("matmul_precision", "xla_flags"),
)
"""What may change the rounding of a run, or more."""


def environment() -> dict[str, Any]:
    """Return versions, devices, commit, machine and command line of this process.

    It starts JAX's devices if they are not yet started.
    """
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "packages": _versions(),
        "commit": commit(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "backend": jax.default_backend(),
        "matmul_precision": jax.config.jax_default_matmul_precision,
        "xla_flags": os.environ.get("XLA_FLAGS"),
        "devices": [device.device_kind for device in devices],
        "processes": jax.process_count(),
        "cpu": _cpu_model(),
        "cores": _cores(),
        "memory_gib": round(machine_bytes() / 2**30, 1),
        "argv": sys.argv,
    }


def keep_earlier(workdir: Path, now: dict[str, Any]) -> str | None:
    """Before a resume replaces environment.json, keep it if `now` differs from it.

    The copy is environment.STEP.json, where STEP is the newest checkpoint. A resume
    that saves nothing changes nothing of it.

    Returns:
      A sentence if the code, the packages or the kernels differ; None if not.
    """
    steps = committed_steps(workdir / "checkpoints")
    if not steps:
        return None
    kept = workdir / f"environment.{steps[-1]}.json"
    before = read_json(kept) or read_json(workdir / "environment.json")
    if before is None or before == strict(now):
        return None
    write_json(kept, before)
    both = ({name: where.get(name) for name in _MATTER} for where in (before, now))
    differing = compare_config(*both, frozenset())
    if not differing:
        return None
    return labelled(
        "note",
        f"up to step {steps[-1]} the run had another environment "
        f"({'; '.join(differing)})",
    )


def peak_memory() -> dict[str, float | None]:
    """Return the peak memory of this process in GiB, on the host and its first device.

    "device" is None where the backend does not count it, as on CPUs.
    """
    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, KiB elsewhere
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    device = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {"host": host, "device": None if device is None else device / 2**30}


def _versions() -> dict[str, str]:
    found = {"byol_bnfree": __version__}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def commit() -> str | None:
    """Return the checkout's commit, "-dirty" if code differs; None if it is unknown.

    Other files do not matter: a grid's own rows would make its next run dirty. Where
    git gives none, as in a copy without .git, BYOL_COMMIT does.
    """
    return _commit_of_git() or os.environ.get("BYOL_COMMIT") or None


def _commit_of_git() -> str | None:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # installed, perhaps in another project's checkout
        return None
    git = partial(subprocess.run, cwd=root, capture_output=True, text=True)
    try:
        found = git(["git", "rev-parse", "--verify", "HEAD"]).stdout.strip()
        differs = git(["git", "diff", "--quiet", "HEAD", "--", *CODE]).returncode
    except OSError:
        return None
    if not found:
        return None
    return f"{found}-dirty" if differs else found


def _cpu_model() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _cores() -> int | None:
    """Return the number of cores that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count()
