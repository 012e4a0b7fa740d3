"""Keeps the memory of a training step for the next step, on CPUs.

XLA allocates the temporary memory of a step at its start and frees it at its end. glibc
returns such large blocks to the system. The system then clears every page again when it
is next used, which takes up to a quarter of a step. We tell glibc to keep the memory
and to ask for huge pages. It keeps only the memory of the main thread, so steps must
run there.
"""

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import resource
from pathlib import Path

from byol_bnfree.machine.memory import machine_bytes

# Parameters of mallopt(3), and of madvise(2).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = -1  # as a threshold: give no memory back
_MADV_HUGEPAGE, _HUGE = 14, 2**21  # the advice, and the bytes of a huge page


def run_in_calling_thread() -> None:
    """Run programs in the calling thread, where their memory is kept.

    Command lines call this before JAX looks for devices; later it has no effect. It
    concerns CPUs only. If all threads shared one heap, the memory of any thread could
    be kept. But threads wait for each other at a shared heap: the main command compiles
    1.6 times as long, and steps without oneDNN take 1.5 times as long.
    """
    import jax  # after the command line was checked

    jax.config.update("jax_cpu_enable_async_dispatch", False)


def runs_in_calling_thread() -> bool:
    """Return True if a program is done when its call returns."""
    import jax

    dispatched = jax.config.read("jax_cpu_enable_async_dispatch")
    return not dispatched and jax.default_backend() == "cpu"


_OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")


def keep_freed_memory() -> None:
    """Keep freed memory in the process, on huge pages. Call it before the first step.

    It does nothing without glibc, or if JAX may use other devices than CPUs. Under a
    limit of addresses or data (`ulimit -v`, `-d`), and where the system never promises
    more memory than it has, no pages are reserved: reserved ones count, and others
    would lack them.
    """
    libc = _glibc()
    if libc is None or accelerators_possible():
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    limits = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    if any(resource.getrlimit(of)[0] != resource.RLIM_INFINITY for of in limits):
        return
    if _OVERCOMMIT.exists() and _OVERCOMMIT.read_text().strip() == "2":
        return  # the system counts reserved pages too
    # Allocating half of the memory only reserves addresses. Freeing it again extends
    # the heap, so later blocks come from this region, which may use huge pages.
    size = machine_bytes() // 2
    heap = libc.malloc(size)
    if heap:
        first = -(-heap // _HUGE) * _HUGE
        libc.madvise(first, size - _HUGE, _MADV_HUGEPAGE)
        libc.free(heap)


def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return libc


def accelerators_possible() -> bool:
    """Return True if JAX may use other devices than CPUs. This does not start JAX."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return False
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    modules = ("jax_plugins", "libtpu")
    return bool(plugins) or any(importlib.util.find_spec(m) for m in modules)
