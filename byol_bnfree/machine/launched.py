"""What a launcher left in the environment: how many processes, and which one is this.

Only environment variables are read.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

Environment = Mapping[str, str]


class Launcher(NamedTuple):
    """A launcher, and the environment variables that it sets in each process."""

    name: str
    size: str
    rank: str
    local_size: str
    local_rank: str


class Place(NamedTuple):
    """A process among those of its launcher on the same machine."""

    count: int
    """Processes on this machine; 1 without a launcher."""
    index: int
    """Of this process among them."""


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
VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


def launcher_of(env: Environment) -> Launcher | None:
    """Return the launcher that started several processes; None if there is none.

    SLURM's `srun` is not among them. Within a SLURM job, mpiexec starts processes of
    its own. Their number then differs from that of the step's tasks.
    """
    for launcher in LAUNCHERS:
        if launcher.rank in env and number(env, launcher.size) > 1:
            return launcher if number(env, launcher.size) != slurm_tasks(env) else None
    return None


def slurm_tasks(env: Environment) -> int:
    """Return the tasks of this step; 1 outside `srun`.

    There SLURM_NTASKS only says how many tasks the allocation could start.
    """
    if "SLURM_STEP_NODELIST" not in env:
        return 1
    return number(env, "SLURM_STEP_NUM_TASKS") or number(env, "SLURM_NTASKS") or 1


def place(env: Environment) -> Place:
    """Return how many processes the launcher started here, and the index of this one.

    Processes that a user started by hand are not seen.
    """
    launcher = launcher_of(env)
    if launcher is not None:
        count = number(env, launcher.local_size)
        return Place(max(count, 1), number(env, launcher.local_rank))
    return Place(_slurm_tasks_here(env), number(env, "SLURM_LOCALID"))


def device_ids(env: Environment) -> list[int]:
    """Return the ids of the accelerators that this process uses; [] means all it sees.

    The only process of a machine uses all. Of several, each uses the one of its index,
    or as many as SLURM's --gpus-per-task says. But a launcher may show each process its
    own accelerators alone. Then it uses all that it sees. We know this case by a number
    that is smaller than that of processes, or equal to --gpus-per-task.
    """
    here, visible, per_task = place(env), _visible(env), _gpus_per_task(env)
    own = visible is not None and (visible < here.count or visible == per_task)
    if here.count == 1 or own:
        return []
    first = here.index * per_task
    return list(range(first, first + per_task))


def number(env: Environment, name: str) -> int:
    """Return the variable as a number; 0 if it is not set or not a number."""
    text = env.get(name, "").strip()
    return int(text) if text.isdecimal() else 0


def _gpus_per_task(env: Environment) -> int:
    """Return the number of SLURM's --gpus-per-task or --tres-per-task, otherwise 1.

    SLURM writes "4" or "a100:4", and "cpu=8,gres/gpu:a100=4".
    """
    of_tasks = re.search(r"(\d+)$", env.get("SLURM_GPUS_PER_TASK", ""))
    of_tres = re.search(
        r"gres/gpu(?::[^,=:]*[^\d,=:][^,=:]*)?[:=](\d+)",
        env.get("SLURM_TRES_PER_TASK", ""),
    )
    found = of_tasks or of_tres
    return max(1, int(found[1])) if found else 1


def _visible(env: Environment) -> int | None:
    """Return how many accelerators this process may see; None if nothing limits it."""
    for name in VISIBLE:
        if name in env:
            return len([entry for entry in env[name].split(",") if entry.strip()])
    return None


def _slurm_tasks_here(env: Environment) -> int:
    """Return the tasks of this step on this node, 1 outside `srun`.

    SLURM writes "2(x3),1" for three nodes of two tasks and one node of one.
    """
    tasks = slurm_tasks(env)
    if tasks == 1:
        return 1
    nodes: list[int] = []
    for entry in env.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        if found := re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", entry.strip()):
            nodes += [int(found[1])] * int(found[2] or 1)
    node = number(env, "SLURM_NODEID")
    if node < len(nodes):
        return nodes[node]
    return -(-tasks // max(number(env, "SLURM_STEP_NUM_NODES"), 1))
