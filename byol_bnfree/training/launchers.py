"""Detection of the launcher: how many processes run, and where they can meet.

Only environment variables are read. JAX itself detects SLURM, Open MPI 4, indexed
Kubernetes jobs and Cloud TPU. This module adds the others.
"""

import importlib.util
import os
from pathlib import Path
from typing import Any, NamedTuple

from byol_bnfree.errors import InputError
from byol_bnfree.machine.launched import (
    Environment,
    Launcher,
    device_ids,
    launcher_of,
    number,
    place,
    slurm_tasks,
)
from byol_bnfree.training.tf_config import Task, read_tf_config

FIRST_PORT, PORTS = 61440, 4096  # the range that JAX chooses ports from, too


class Joining(NamedTuple):
    """How this process joins the others."""

    why: str
    """How we know that there are others; part of messages."""
    arguments: dict[str, Any]
    """Arguments of `jax.distributed.initialize`. It detects the missing ones."""
    count: int | None = None
    """Number of processes, where JAX detects it by itself but we know it too."""


def find_others(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    env: Environment,
) -> Joining | None:
    """Return how to join the other processes of this run; None if there are none.

    Args:
      coordinator: the flag --coordinator, HOST:PORT.
      num_processes: the flag --num-processes.
      process_id: the flag --process-id.
      env: environment variables.

    Raises:
      InputError: if there are others but no known address, or a coordinator is given
        without the number of processes.
    """
    if num_processes is not None:
        arguments = {
            "coordinator_address": coordinator,
            "num_processes": num_processes,
            "process_id": process_id,
            "cluster_detection_method": "deactivate",
        }
        why = f"--num-processes={num_processes}"
        return Joining(why, arguments | _devices(env))
    launcher, tasks = launcher_of(env), slurm_tasks(env)
    if launcher is not None:
        return _by_launcher(launcher, coordinator, env)
    address = {} if coordinator is None else {"coordinator_address": coordinator}
    if tasks > 1:
        why = f"SLURM started {tasks} tasks in this step"
        return Joining(why, address | {"num_processes": tasks} | _devices(env))
    if (task := read_tf_config(env)) is not None:
        return _by_tf_config(task, coordinator)
    if _in_other_cluster(env):
        return Joining("the cluster manager started several", address)
    if coordinator is not None:
        raise InputError(
            "coordinator is given, but the number of processes is unknown; give "
            "--num-processes=N and --process-id=I too."
        )
    return None


def _by_launcher(
    launcher: Launcher, coordinator: str | None, env: Environment
) -> Joining:
    size, local = number(env, launcher.size), place(env).count
    why = f"{launcher.name} started {size} ({launcher.size})"
    address = coordinator or _meeting_place(launcher, size == local, env)
    if address is None and "OMPI_MCA_orte_hnp_uri" in env:  # Open MPI 4: JAX reads it
        return Joining(why, _devices(env))
    if address is None and importlib.util.find_spec("mpi4py"):
        method = {"cluster_detection_method": "mpi4py"}
        return Joining(why, method | _devices(env), size)
    if address is None:
        raise InputError(
            f"{why} processes on several machines, but the address of process 0 is "
            f"unknown; give --coordinator=HOST:PORT (the first machine and a free port "
            f"there), or install mpi4py."
        )
    arguments = {
        "coordinator_address": address,
        "num_processes": size,
        "process_id": number(env, launcher.rank),
        "cluster_detection_method": "deactivate",
    }
    return Joining(why, arguments | _devices(env))


def _devices(env: Environment) -> dict[str, list[int]]:
    """Return the argument that names this process's accelerators.

    Without it, JAX's detection of SLURM and MPI takes the one of the local rank. A user
    may name them in JAX_LOCAL_DEVICE_IDS, which JAX reads only if the argument is
    missing.
    """
    if "JAX_LOCAL_DEVICE_IDS" in env:
        return {}
    return {"local_device_ids": device_ids(env)}


def _by_tf_config(task: Task, coordinator: str | None) -> Joining:
    arguments = {
        "coordinator_address": coordinator or task.addresses[0],
        "num_processes": len(task.addresses),
        "process_id": task.index,
        "cluster_detection_method": "deactivate",
    }
    return Joining(f"TF_CONFIG names {len(task.addresses)} processes", arguments)


def _meeting_place(
    launcher: Launcher, one_machine: bool, env: Environment
) -> str | None:
    """Return a HOST:PORT that every process derives alike; None if there is none.

    torchrun itself listens on MASTER_PORT, so we derive another port from it. On one
    machine we derive the port from the launcher's process id, which all ranks share.
    """
    if "MASTER_ADDR" in env and "MASTER_PORT" in env:
        port = FIRST_PORT + number(env, "MASTER_PORT") % PORTS
        return f"{env['MASTER_ADDR']}:{port}"
    if one_machine:
        return f"127.0.0.1:{FIRST_PORT + _launcher_pid(launcher.rank) % PORTS}"
    return None


def _launcher_pid(rank: str) -> int:
    """Return the process id of the launcher: the nearest ancestor without a rank.

    A shell of the same rank may stand between the two.
    """
    pid = os.getppid()
    try:
        while f"{rank}=".encode() in Path(f"/proc/{pid}/environ").read_bytes():
            stat = Path(f"/proc/{pid}/stat").read_text()
            pid = int(stat.rpartition(")")[2].split()[1])  # its name may have spaces
    except OSError:  # no /proc, or a process of another user
        pass
    return pid


def _in_other_cluster(env: Environment) -> bool:
    kubernetes = "KUBERNETES_SERVICE_HOST" in env and "JOB_COMPLETION_INDEX" in env
    tpu = importlib.util.find_spec("libtpu") is not None and (
        "," in env.get("TPU_WORKER_HOSTNAMES", "")
        or "," in env.get("TPU_PROCESS_ADDRESSES", "")
        or "TPU_ACCELERATOR_TYPE" in env
    )
    return kubernetes or tpu
