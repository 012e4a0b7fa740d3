"""On a CPU, a step's memory comes from the step before and not from the system.

XLA allocates the temporary memory of a step when the step begins and frees it at its
end. glibc gives such large pieces back to the system, which clears every page anew when
it is touched: up to a quarter of a step. Told to keep them, and to ask for huge pages,
it does not; but it keeps only what the main thread allocates, so steps must run there.
"""

import ctypes
import importlib.metadata
import importlib.util
import os
import platform

from byol_bnfree.memory import machine_bytes

# Parameters of mallopt(3), and of madvise(2).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = -1
_MADV_HUGEPAGE, _HUGE = 14, 2**21


def run_in_calling_thread() -> None:
    """Programs on CPU run in the thread that calls them, where their memory is kept.

    For command lines, before JAX has looked for devices; nothing changes afterwards, or
    on other devices. Any thread's memory could be kept if all shared one heap, but they
    wait for each other there: the main command compiles 1.6 times, and steps without
    oneDNN 1.5 times as long.
    """
    import jax  # by then the command line is known to be good

    jax.config.update("jax_cpu_enable_async_dispatch", False)


def runs_in_calling_thread() -> bool:
    """Whether a program is done when its call returns: after the above, on CPU."""
    import jax

    dispatched = jax.config.read("jax_cpu_enable_async_dispatch")
    return not dispatched and jax.default_backend() == "cpu"


def keep_freed_memory() -> None:
    """Freed memory stays in the process, on huge pages; for a run, before its steps.

    Nothing where there is no glibc, or where JAX may run on something else than CPUs.
    """
    libc = _glibc()
    if libc is None or accelerators_possible():
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    size = machine_bytes() // 2  # of addresses; memory is taken when it is touched
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
    """Whether JAX may run on something else than CPUs, without starting it."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return False
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    modules = ("jax_plugins", "libtpu")
    return bool(plugins) or any(importlib.util.find_spec(m) for m in modules)
