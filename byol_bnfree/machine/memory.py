"""Rejects work that cannot fit into memory, before it starts.

The sizes are lower bounds, so possible work is never rejected. A run may still need
more memory (see `command_line.exit_on_error`).
"""

import contextlib
import os
import resource
from collections.abc import Mapping

from byol_bnfree.errors import InputError
from byol_bnfree.machine.control_groups import groups_of


def machine_bytes(processes: int = 1) -> int:
    """Return the memory that this process may use: of machine, container or limit.

    The limit of a SLURM job is that of a control group, as a container's is. We count
    it whole, because a task may have a group of its own. `processes` of one run share
    the memory of the machine.
    """
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [whole // processes]
    own, _ = resource.getrlimit(resource.RLIMIT_AS)
    if own != resource.RLIM_INFINITY:
        limits.append(own)
    for group in groups_of("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):  # versions 2 and 1
            with contextlib.suppress(OSError, ValueError):  # "max" means no limit
                limits.append(int((group / name).read_text()))
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
