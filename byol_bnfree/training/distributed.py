"""Start, agreement and end of several processes that run one program."""

import contextlib
import functools
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import RunStopped
from byol_bnfree.training.launchers import Joining, find_others

# Seconds without a heartbeat, or of delay at the common end, after which JAX ends the
# other processes. The heartbeat has its own thread, so a busy process is not taken for
# a dead one.
_SILENCE, _LATENESS = 30, 60
# Seconds after which a process that waits at the start prints a message.
_PATIENCE = 3.0
_FOR_EVER = 10**6  # seconds
_FROM_XLA = re.compile("[A-Z_]+: ")  # "UNKNOWN: Gloo all-reduce failed"


def initialize(config: TrainConfig) -> None:
    """Join the other processes of this run. A run of one process does nothing.

    SLURM, Open MPI, MPICH, torchrun, TF_CONFIG, indexed Kubernetes jobs and Cloud TPU
    are detected (`training.launchers`). Elsewhere give --coordinator, --num-processes
    and --process-id. Call this before JAX's devices are used. A second call does
    nothing.

    From then on, if one process fails, all end: see `fate_shared`.

    Raises:
      InputError: if no address is known at which the processes can meet.
      RunStopped: with status 2, if the others did not come or cannot be joined. JAX can
        no longer be used in this process then.
    """
    if jax.distributed.is_initialized():
        return
    joining = find_others(
        config.coordinator, config.num_processes, config.process_id, os.environ
    )
    if joining is not None:
        _join(joining, config.run.join_seconds)


def _join(joining: Joining, limit: float) -> None:
    """Join within `limit` seconds, and print early whom this process waits for.

    JAX waits in a thread without a time limit, because its own limit would abort the
    process without a message.
    """
    failed: list[Exception] = []

    def join() -> None:
        """Wait for the others; keep the error for the thread that asks."""
        try:
            jax.distributed.initialize(
                **joining.arguments,
                initialization_timeout=_FOR_EVER,
                heartbeat_timeout_seconds=_SILENCE,
                shutdown_timeout_seconds=_LATENESS,
            )
        except Exception as error:
            failed.append(error)

    # A daemon: it may wait for ever and must not keep this process alive.
    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    # Processes that start together find each other soon, and nothing is printed.
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
            f"waited {limit:g} s for {_missing(joining)} ({joining.why}); check "
            f"that all are started with different --process-id and can reach the "
            f"address, or raise --run.join-seconds.",
            status=2,
            at_once=True,
        )
    if failed:
        reason = str(failed[0]).splitlines()[0]
        raise RunStopped(
            f"cannot join the other processes ({joining.why}): {reason}; check that "
            f"all are started and can reach the address.",
            status=2,
            at_once=True,
        ) from failed[0]
    _check_count(joining)


def _check_count(joining: Joining) -> None:
    """Raise `RunStopped` if fewer processes joined than a launcher or a flag said.

    An mpi4py of another MPI than the launcher's knows of one process. Each process
    would then train by itself.
    """
    given = joining.arguments.get("num_processes")
    if given not in (None, found := jax.process_count()):
        raise RunStopped(
            f"this process was started as one of {given}, but process 0 as one of "
            f"{found}; give all the same number (--num-processes).",
            status=2,
            at_once=True,
        )
    if joining.count not in (None, found):
        raise RunStopped(
            f"{joining.why} processes, but JAX found {found}; perhaps mpi4py is for "
            f"another MPI: install it for this one, or give --coordinator=HOST:PORT.",
            status=2,
            at_once=True,
        )


def _missing(joining: Joining) -> str:
    """Describe the processes that this one waits for, as far as it can know."""
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
    """Return True in the process that writes logs and prints."""
    return jax.process_index() == 0


def spread(flag: bool) -> jax.Array:
    """Send process 0's flag to every process, and return at once.

    All must call it at the same step. `bool` of the result waits until the devices have
    done all that was dispatched before.
    """
    # Each device has a flag, because processes may have different numbers of devices.
    devices = jax.devices()
    mesh = Mesh(np.array(devices), ("all",))
    sharding, own = NamedSharding(mesh, P("all")), np.array([flag and is_primary()])
    flags = jax.make_array_from_callback((len(devices),), sharding, lambda _: own)
    return _any(mesh)(flags)


@functools.lru_cache(maxsize=1)  # otherwise each call would compile it anew
def _any(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(jnp.any, out_shardings=NamedSharding(mesh, P()))


def wait_for_all(name: str) -> None:
    """Wait until every process arrives here. `name` identifies the place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def fate_shared(resuming: str) -> Iterator[None]:
    """End this process with a message if work with the other processes fails.

    `resuming` names the command that resumes the run, as `errors.same_command` does.

    It ends at once, for two reasons. JAX aborts every process that loses another one:
    process 0 within milliseconds, the others after 30 s. And an orderly exit would wait
    for the lost process. Every XLA error counts as a lost process, because each network
    transport words it differently. If the cause is local (no memory left), the message
    still quotes it.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # XLA raises both
        if jax.process_count() == 1 or not _FROM_XLA.match(str(error)):
            raise
        print(
            f"error: process {jax.process_index()} of {jax.process_count()} cannot go "
            f"on without the others ({str(error).splitlines()[0]}); read the message "
            f"of the process that ended first. To go on from the last checkpoint, if "
            f"there is one, give {resuming} in all of them.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)


def say(text: str) -> None:
    """Print a line, in process 0 only."""
    if is_primary():
        print(text, flush=True)


def labelled(label: str, text: object) -> str:
    """Return a line of the first ones of a run, whose texts stand below each other."""
    return f"{label:<11}{text}"
