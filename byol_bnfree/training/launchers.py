"""Detection of the launcher: how many processes run, and where they can meet.

Only environment variables are read. JAX itself detects SLURM, Open MPI 4, indexed
Kubernetes jobs and Cloud TPU. This module adds the others.
"""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from byol_bnfree.errors import InputError
from byol_bnfree.training.tf_config import Task, read_tf_config

Environment = Mapping[str, str]
FIRST_PORT, PORTS = 61440, 4096  # the range that JAX chooses ports from, too


class Joining(NamedTuple):
    """How this process joins the others."""

    why: str
    """How we know that there are others; part of messages."""
    arguments: dict[str, Any]
    """Arguments of `jax.distributed.initialize`. It detects the missing ones."""
    count: int | None = None
    """Number of processes, where JAX detects it by itself but we know it too."""


class Launcher(NamedTuple):
    """A launcher, and the environment variables that it sets in each process."""

    name: str
    size: str
    rank: str
    local_size: str
    local_rank: str


LAUNCHERS = (
    Launcher("torchrun", "WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK"),
    Launcher(
        "Open MPI",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
    ),
    Launcher("MPICH", "PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS", "MPI_LOCALRANKID"),
    Launcher(
        "MVAPICH",
        "MV2_COMM_WORLD_SIZE",
        "MV2_COMM_WORLD_RANK",
        "MV2_COMM_WORLD_LOCAL_SIZE",
        "MV2_COMM_WORLD_LOCAL_RANK",
    ),
    Launcher(
        "jsrun",
        "JSM_NAMESPACE_SIZE",
        "JSM_NAMESPACE_RANK",
        "JSM_NAMESPACE_LOCAL_SIZE",
        "JSM_NAMESPACE_LOCAL_RANK",
    ),
)


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
        arguments = {"num_processes": num_processes, "process_id": process_id}
        why = f"--num-processes={num_processes}"
        return Joining(why, arguments | {"coordinator_address": coordinator})
    launcher, tasks = _launcher(env), _slurm_tasks(env)
    # Within a SLURM job, mpiexec starts processes of its own. Their number then differs
    # from that of the step's tasks.
    if launcher is not None and tasks != _number(env, launcher.size):
        return _by_launcher(launcher, coordinator, env)
    address = {} if coordinator is None else {"coordinator_address": coordinator}
    if tasks > 1:
        why = f"SLURM started {tasks} tasks in this step"
        return Joining(why, address | {"num_processes": tasks})
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


def _launcher(env: Environment) -> Launcher | None:
    """Return the launcher that started several processes; None if there is none."""
    for launcher in LAUNCHERS:
        if launcher.rank in env and _number(env, launcher.size) > 1:
            return launcher
    return None


def _by_launcher(
    launcher: Launcher, coordinator: str | None, env: Environment
) -> Joining:
    size, local = _number(env, launcher.size), _number(env, launcher.local_size)
    why = f"{launcher.name} started {size} ({launcher.size})"
    address = coordinator or _meeting_place(launcher, size == local, env)
    if address is None and "OMPI_MCA_orte_hnp_uri" in env:  # Open MPI 4: JAX reads it
        return Joining(why, {})
    if address is None and importlib.util.find_spec("mpi4py"):
        return Joining(why, {"cluster_detection_method": "mpi4py"}, size)
    if address is None:
        raise InputError(
            f"{why} processes on several machines, but the address of process 0 is "
            f"unknown; give --coordinator=HOST:PORT (the first machine and a free port "
            f"there), or install mpi4py."
        )
    arguments = {
        "coordinator_address": address,
        "num_processes": size,
        "process_id": _number(env, launcher.rank),
        "cluster_detection_method": "deactivate",
    }
    if local > 1:  # each process takes one accelerator; a single process takes all
        arguments["local_device_ids"] = [_number(env, launcher.local_rank)]
    return Joining(why, arguments)


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
        port = FIRST_PORT + _number(env, "MASTER_PORT") % PORTS
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


def _slurm_tasks(env: Environment) -> int:
    """Return the tasks of this step; 1 outside `srun`.

    There SLURM_NTASKS only says how many tasks the allocation could start.
    """
    if "SLURM_STEP_NODELIST" not in env:
        return 1
    return _number(env, "SLURM_STEP_NUM_TASKS") or _number(env, "SLURM_NTASKS") or 1


def _in_other_cluster(env: Environment) -> bool:
    kubernetes = "KUBERNETES_SERVICE_HOST" in env and "JOB_COMPLETION_INDEX" in env
    tpu = importlib.util.find_spec("libtpu") is not None and (
        "," in env.get("TPU_WORKER_HOSTNAMES", "")
        or "," in env.get("TPU_PROCESS_ADDRESSES", "")
        or "TPU_ACCELERATOR_TYPE" in env
    )
    return kubernetes or tpu


def _number(env: Environment, name: str) -> int:
    """Return the variable as a number; 0 if it is not set or not a number."""
    text = env.get(name, "").strip()
    return int(text) if text.isdecimal() else 0
