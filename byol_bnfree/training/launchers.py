"""Who started this process, how many beside it, and how they can meet.

Only the environment is read. JAX itself knows SLURM, Open MPI 4, indexed Kubernetes
jobs and Cloud TPU; the rest is here.
"""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from byol_bnfree.errors import InputError

Environment = Mapping[str, str]
FIRST_PORT, PORTS = 61440, 4096  # those that JAX chooses from, too


class Joining(NamedTuple):
    """The way in which this process joins the others."""

    why: str
    """Who says that there are others, for a sentence."""
    arguments: dict[str, Any]
    """Arguments of `jax.distributed.initialize`, which finds out the rest."""


class Launcher(NamedTuple):
    """A program that starts processes, and the variables it sets in each."""

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
    """The way to join the other processes of this run; None where there are none.

    Args are the flags of the same names, and the environment.

    Raises:
      InputError: there are others, and nothing says where they meet; or there is a
        coordinator, and nothing says how many processes there are.
    """
    if num_processes is not None:
        arguments = {"num_processes": num_processes, "process_id": process_id}
        why = f"--num-processes={num_processes}"
        return Joining(why, arguments | {"coordinator_address": coordinator})
    launcher, tasks = _launcher(env), _slurm_tasks(env)
    if launcher is not None and tasks != _number(env, launcher.size):
        return _by_launcher(launcher, coordinator, env)
    address = {} if coordinator is None else {"coordinator_address": coordinator}
    if tasks > 1:
        why = f"SLURM started {tasks} tasks in this step"
        return Joining(why, address | {"num_processes": tasks})
    if _in_other_cluster(env):
        return Joining("the cluster manager started several", address)
    if coordinator is not None:
        raise InputError(
            "coordinator is given, and nothing says how many processes there are; give "
            "--num-processes=N and --process-id=I too."
        )
    return None


def _launcher(env: Environment) -> Launcher | None:
    """The one that started several processes, if any did."""
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
    if address is None and "OMPI_MCA_orte_hnp_uri" in env:  # version 4; JAX reads it
        return Joining(why, {})
    if address is None and importlib.util.find_spec("mpi4py"):
        return Joining(why, {"cluster_detection_method": "mpi4py"})
    if address is None:
        raise InputError(
            f"{why} processes on several machines, and nothing says where they meet; "
            f"give --coordinator=HOST:PORT, the first machine and a free port there, "
            f"or install mpi4py."
        )
    arguments = {
        "coordinator_address": address,
        "num_processes": size,
        "process_id": _number(env, launcher.rank),
        "cluster_detection_method": "deactivate",
    }
    if local > 1:  # each has one accelerator of the machine; alone there it has all
        arguments["local_device_ids"] = [_number(env, launcher.local_rank)]
    return Joining(why, arguments)


def _meeting_place(
    launcher: Launcher, one_machine: bool, env: Environment
) -> str | None:
    """HOST:PORT that every process works out alike; None where that cannot be.

    MASTER_PORT itself is torchrun's own. On one machine the launcher's process is the
    same for all.
    """
    if "MASTER_ADDR" in env and "MASTER_PORT" in env:
        port = FIRST_PORT + _number(env, "MASTER_PORT") % PORTS
        return f"{env['MASTER_ADDR']}:{port}"
    if one_machine:
        return f"127.0.0.1:{FIRST_PORT + _launcher_pid(launcher.rank) % PORTS}"
    return None


def _launcher_pid(rank: str) -> int:
    """The nearest process above this one that is not of any rank.

    Between the two may be a shell of this rank's own.
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
    """Tasks of this step; 1 outside `srun`, where SLURM_NTASKS is what could be."""
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
    """0 where the variable is not set or no number."""
    text = env.get(name, "").strip()
    return int(text) if text.isdecimal() else 0
