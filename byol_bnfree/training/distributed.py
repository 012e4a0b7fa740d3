"""Several processes as one program: they start, agree and end together."""

import contextlib
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import RunStopped
from byol_bnfree.training.launchers import Joining, find_others

# Seconds: how long a process may give no sign of life, or be late for the common end,
# before JAX ends the others. A beat comes from a thread of its own, however busy the
# process is, so a loaded machine is not taken for a dead one.
_SILENCE, _LATENESS = 30, 60
# Seconds after which a process that waits for others at the start says so.
_PATIENCE = 3.0
_FOR_EVER = 10**6
_FROM_XLA = re.compile("[A-Z_]+: ")  # "UNKNOWN: Gloo all-reduce failed"


def initialize(config: TrainConfig) -> None:
    """Join the other processes of this run; nothing to do where there are none.

    SLURM, Open MPI, MPICH, torchrun, indexed Kubernetes jobs and Cloud TPU are found by
    themselves (`training.launchers`), elsewhere --coordinator, --num-processes and
    --process-id tell. To be called before JAX's devices are used; a second call does
    nothing.

    From then on the processes live and die together: see `fate_shared`.

    Raises:
      InputError: nothing says how the processes can meet.
      RunStopped: with status 2; the others did not come, or could not be joined. In a
        process that goes on after that, JAX can no longer be used.
    """
    if jax.distributed.is_initialized():
        return
    joining = find_others(
        config.coordinator, config.num_processes, config.process_id, os.environ
    )
    if joining is not None:
        _join(joining, config.run.join_seconds)


def _join(joining: Joining, limit: float) -> None:
    """Join within `limit` seconds, and say who is waited for before they are over.

    JAX waits in a thread, without an end: at an end of its own it aborts the process.
    """
    failed: list[Exception] = []

    def join() -> None:
        try:
            jax.distributed.initialize(
                **joining.arguments,
                initialization_timeout=_FOR_EVER,
                heartbeat_timeout_seconds=_SILENCE,
                shutdown_timeout_seconds=_LATENESS,
            )
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    thread.join(min(_PATIENCE, limit))
    if thread.is_alive():
        print(
            f"waiting for {_missing(joining)} ({joining.why}), for at most {limit:g} s "
            f"(--run.join-seconds)",
            flush=True,
        )
        thread.join(max(0, limit - _PATIENCE))
    if thread.is_alive():
        raise RunStopped(
            f"waited {limit:g} s for {_missing(joining)} ({joining.why}); see that all "
            f"are started and reach the address, or raise --run.join-seconds.",
            status=2,
            at_once=True,
        )
    if failed:
        reason = str(failed[0]).splitlines()[0]
        raise RunStopped(
            f"cannot join the other processes ({joining.why}): {reason}; see that all "
            f"are started and reach the address.",
            status=2,
            at_once=True,
        ) from failed[0]


def _missing(joining: Joining) -> str:
    """Whom this process waits for, as far as it can know."""
    address = joining.arguments.get("coordinator_address")
    if address is None:
        return "the other processes"
    if joining.arguments.get("process_id") and not _answers(address):
        return f"process 0 at {address}, which does not answer"
    return f"the other processes at {address}"


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False


def is_primary() -> bool:
    """Whether this process writes the logs and speaks."""
    return jax.process_index() == 0


def agreed(flag: bool) -> bool:
    """Process 0's flag, in every process; to be called by all at the same step."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.broadcast_one_to_all(np.bool_(flag)))


def wait_for_all(name: str) -> None:
    """Return when every process has come here; `name` tells the places apart."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def fate_shared() -> Iterator[None]:
    """Ends this process with a sentence where work with the others fails.

    At once, because JAX aborts every process when it misses one (process 0 in
    milliseconds, another after 30 s), and because leaving in order waits for the lost.
    Whatever XLA reports is taken for a loss: each transport has words of its own, and
    if the cause is here after all (no memory left), they are in the sentence.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # it raises both
        if jax.process_count() == 1 or not _FROM_XLA.match(str(error)):
            raise
        print(
            f"error: process {jax.process_index()} of {jax.process_count()} cannot go "
            f"on without the others ({str(error).splitlines()[0]}); see what the one "
            f"that ended first says. The same command in all of them resumes from the "
            f"last checkpoint.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)


def say(text: str) -> None:
    """Print a line, in process 0 only."""
    if is_primary():
        print(text, flush=True)
