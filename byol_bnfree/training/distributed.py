"""Several processes as one program: they start, agree and end together."""

import contextlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import InputError

# Seconds: how long a process may give no sign of life, or be late for the common end,
# before JAX ends the others. A beat comes from a thread of its own, however busy the
# process is, so a loaded machine is not taken for a dead one.
_SILENCE, _LATENESS = 30, 60
_FROM_XLA = re.compile("[A-Z_]+: ")  # "UNKNOWN: Gloo all-reduce failed"


def initialize(config: TrainConfig) -> None:
    """Join the other processes of this run; nothing to do where there are none.

    SLURM, Open MPI, indexed Kubernetes jobs and Cloud TPU are found by themselves,
    elsewhere --coordinator, --num-processes and --process-id tell. To be called
    before JAX's devices are used; a second call does nothing.

    From then on the processes live and die together: see `fate_shared`.

    Raises:
      InputError: the coordinator cannot be reached.
    """
    if jax.distributed.is_initialized():
        return
    try:
        if config.coordinator is not None:
            jax.distributed.initialize(
                config.coordinator,
                config.num_processes,
                config.process_id,
                heartbeat_timeout_seconds=_SILENCE,
                shutdown_timeout_seconds=_LATENESS,
            )
        elif in_cluster(os.environ):
            jax.distributed.initialize(
                heartbeat_timeout_seconds=_SILENCE,
                shutdown_timeout_seconds=_LATENESS,
            )
    except (RuntimeError, ValueError) as error:
        where = config.coordinator or "the cluster manager's coordinator"
        reason = str(error).splitlines()[0]
        raise InputError(
            f"cannot join the processes at {where} ({reason}); check the address and "
            f"that every process was started."
        ) from error


def in_cluster(env) -> bool:
    """Whether a manager that JAX knows has started several processes."""
    many = ("SLURM_STEP_NODELIST" in env and int(env.get("SLURM_NTASKS", 1)) > 1) or (
        "OMPI_MCA_orte_hnp_uri" in env and int(env.get("OMPI_COMM_WORLD_SIZE", 1)) > 1
    )
    kubernetes = "KUBERNETES_SERVICE_HOST" in env and "JOB_COMPLETION_INDEX" in env
    tpu = importlib.util.find_spec("libtpu") is not None and (
        "," in env.get("TPU_WORKER_HOSTNAMES", "")
        or "," in env.get("TPU_PROCESS_ADDRESSES", "")
        or "TPU_ACCELERATOR_TYPE" in env
    )
    return many or kubernetes or tpu


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
