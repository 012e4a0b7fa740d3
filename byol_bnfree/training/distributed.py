"""Several processes as one program."""

import importlib.util
import os

import jax
import numpy as np
from jax.experimental import multihost_utils

from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import InputError


def initialize(config: TrainConfig) -> None:
    """Join the other processes of this run; nothing to do where there are none.

    SLURM, Open MPI, indexed Kubernetes jobs and Cloud TPU are found by themselves,
    elsewhere --coordinator, --num-processes and --process-id tell. To be called
    before JAX's devices are used; a second call does nothing.

    Raises:
      InputError: the coordinator cannot be reached.
    """
    if jax.distributed.is_initialized():
        return
    try:
        if config.coordinator is not None:
            jax.distributed.initialize(
                config.coordinator, config.num_processes, config.process_id
            )
        elif in_cluster(os.environ):
            jax.distributed.initialize()
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
