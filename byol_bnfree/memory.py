"""Rejects work that cannot fit into memory, before it starts.

The sizes are lower bounds, so possible work is never rejected. A run may still need
more memory (see `command_line.exit_on_error`).
"""

import os
import resource
from collections.abc import Mapping
from pathlib import Path

from byol_bnfree.errors import InputError

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container, on Linux


def machine_bytes() -> int:
    """Return the memory that this process may use: of machine, container or limit."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    own, _ = resource.getrlimit(resource.RLIMIT_AS)
    if own != resource.RLIM_INFINITY:
        limits.append(own)
    if CGROUP_LIMIT.exists() and (text := CGROUP_LIMIT.read_text().strip()).isdecimal():
        limits.append(int(text))
    return min(limits)


def check_memory(
    needed: Mapping[str, float], advice: str, available: int | None = None
) -> None:
    """Raise `InputError` if the sum of `needed` exceeds the available memory.

    Args:
      needed: bytes by purpose.
      advice: the end of the message, which says what to do.
      available: bytes; None takes `machine_bytes()`.
    """
    available = available or machine_bytes()
    if sum(needed.values()) > available:
        parts = " and ".join(f"{what} ({_gb(size)})" for what, size in needed.items())
        raise InputError(
            f"{parts} cannot fit into the {_gb(available)} of memory here; {advice}."
        )


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"
