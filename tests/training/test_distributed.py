"""A launcher is recognized by what it leaves in the environment, and nobody is lost."""

import json
import re
import socket
import subprocess
import sys
from unittest.mock import MagicMock

import pytest

from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import InputError, RunStopped
from byol_bnfree.training import distributed, launchers
from byol_bnfree.training.launchers import find_others

STEP = {"SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "4", "SLURM_LOCALID": "3"}
TORCHRUN = {
    "WORLD_SIZE": "4",
    "RANK": "3",
    "LOCAL_WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "n1",
    "MASTER_PORT": "29500",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}
MPICH = {
    "PMI_SIZE": "2",
    "PMI_RANK": "0",
    "MPI_LOCALNRANKS": "2",
    "MPI_LOCALRANKID": "0",
}
CLUSTER = {"chief": ["n1:2222"], "worker": ["n2:2222", "n3:2222"], "ps": ["n4:2222"]}


def tf_config(kind: str, index: int = 0, cluster: dict = CLUSTER) -> dict[str, str]:
    """The environment of a task of Kubeflow or Vertex AI."""
    task = {"type": kind, "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


ALONE = {
    "a laptop": {},
    "a SLURM job of one task": {"SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "1"},
    "a SLURM shell outside srun": {"SLURM_NTASKS": "8"},
    "a step of one task in a job of four": STEP | {"SLURM_STEP_NUM_TASKS": "1"},
    "mpirun of one process": OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1"},
    "torchrun of one process": TORCHRUN | {"WORLD_SIZE": "1", "RANK": "0"},
    "TF_CONFIG of one process": tf_config("chief", cluster={"chief": ["n1:2222"]}),
    "TF_CONFIG without a cluster": {"TF_CONFIG": "{}"},
    "a pod that is not of an indexed job": {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
}
TOGETHER = {
    "srun": (STEP, {"num_processes": 4, "local_device_ids": [3]}),
    "srun of a step": (
        STEP | {"SLURM_STEP_NUM_TASKS": "2"},
        {"num_processes": 2, "local_device_ids": [3]},
    ),
    "srun --mpi=pmi2": (
        STEP | MPICH | {"PMI_SIZE": "4"},
        {"num_processes": 4, "local_device_ids": [3]},
    ),
    "Open MPI 4 on two machines": (
        OPEN_MPI
        | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1", "OMPI_MCA_orte_hnp_uri": "1;tcp://n1:1"},
        {"local_device_ids": []},
    ),
    "Kubernetes": ({"KUBERNETES_SERVICE_HOST": "n", "JOB_COMPLETION_INDEX": "0"}, {}),
    "TF_CONFIG": (
        tf_config("worker", 1),
        {
            "coordinator_address": "n1:2222",
            "num_processes": 3,
            "process_id": 2,
            "cluster_detection_method": "deactivate",
        },
    ),
    "torchrun": (
        TORCHRUN,
        {
            "coordinator_address": "n1:62268",
            "num_processes": 4,
            "process_id": 3,
            "cluster_detection_method": "deactivate",
            "local_device_ids": [1],
        },
    ),
}
EIGHT = STEP | {"SLURM_NTASKS": "8", "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}
DEVICES = {
    "srun, one task on each node": (
        EIGHT | {"SLURM_STEP_TASKS_PER_NODE": "1(x8)", "SLURM_LOCALID": "0"},
        [],
    ),
    "srun, eight tasks on a node": (
        EIGHT | {"SLURM_STEP_TASKS_PER_NODE": "8", "SLURM_LOCALID": "5"},
        [5],
    ),
    "srun, nodes of different numbers of tasks": (
        EIGHT | {"SLURM_STEP_TASKS_PER_NODE": "3(x2),1(x2)", "SLURM_NODEID": "2"},
        [],
    ),
    "srun without the tasks of each node": (EIGHT | {"SLURM_STEP_NUM_NODES": "8"}, []),
    "srun, each task sees its own": (EIGHT | {"CUDA_VISIBLE_DEVICES": "3"}, []),
    "srun, each task sees its own two": (EIGHT | {"CUDA_VISIBLE_DEVICES": "6,7"}, []),
    "srun --gpus-per-task=a100:4, two tasks": (
        STEP
        | {"SLURM_NTASKS": "2", "SLURM_GPUS_PER_TASK": "a100:4"}
        | {"CUDA_VISIBLE_DEVICES": "4,5,6,7"},
        [],
    ),
    "srun --gpus-per-task=4, two tasks that see all": (
        STEP
        | {"SLURM_NTASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_LOCALID": "1"}
        | {"SLURM_GPUS_PER_TASK": "4", "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"},
        [4, 5, 6, 7],
    ),
    "srun --tres-per-task=gres/gpu:a100:2, four tasks that see all": (
        EIGHT
        | {"SLURM_NTASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "4", "SLURM_LOCALID": "1"}
        | {"SLURM_TRES_PER_TASK": "cpu=8,gres/gpu:a100=2"},
        [2, 3],
    ),
    "srun --tres-per-task=gres/gpu:4, each task sees its own": (
        EIGHT
        | {"SLURM_NTASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_LOCALID": "1"}
        | {"SLURM_TRES_PER_TASK": "gres/gpu:4", "CUDA_VISIBLE_DEVICES": "4,5,6,7"},
        [],
    ),
    "srun on AMD": (STEP | {"ROCR_VISIBLE_DEVICES": "0"}, []),
    "Open MPI, one machine": (OPEN_MPI, [1]),
    "Open MPI, each process sees its own": (
        OPEN_MPI | {"CUDA_VISIBLE_DEVICES": "GPU-5a"},
        [],
    ),
    "Open MPI, one process on each machine": (
        OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"},
        [],
    ),
}
SEVERAL_MACHINES = {
    "Open MPI 5": OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"},
    "MPICH": MPICH | {"MPI_LOCALNRANKS": "1"},
    "mpiexec under SLURM": STEP | MPICH | {"MPI_LOCALNRANKS": "1"},
    "torchrun": {k: v for k, v in TORCHRUN.items() if not k.startswith("MASTER")},
}


@pytest.mark.parametrize("env", ALONE.values(), ids=ALONE)
def test_one_process_does_not_wait_for_others(env):
    assert find_others(None, None, None, env) is None


@pytest.mark.parametrize(("env", "arguments"), TOGETHER.values(), ids=TOGETHER)
def test_several_processes_are_noticed(env, arguments):
    assert find_others(None, None, None, env).arguments == arguments


@pytest.mark.parametrize(("env", "ids"), DEVICES.values(), ids=DEVICES)
@pytest.mark.parametrize("explicit", [(), (2, 1)], ids=["found", "--num-processes"])
def test_a_process_takes_the_devices_that_are_its_own(env, ids, explicit):
    found = find_others("n1:1234", *(explicit or (None, None)), env).arguments
    assert found["local_device_ids"] == ids
    named = find_others(
        "n1:1234", *(explicit or (None, None)), env | {"JAX_LOCAL_DEVICE_IDS": "0"}
    )
    assert "local_device_ids" not in named.arguments  # JAX reads the user's choice


def test_jax_takes_no_ids_for_all_devices(monkeypatch):
    """Its detection of SLURM must not replace them by the local rank."""
    from jax._src import distributed as of_jax

    slurm = STEP | {"SLURM_JOB_ID": "1", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}
    slurm |= {"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_LOCALID": "0"}
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(of_jax, "_jax", MagicMock())  # it would connect
    arguments = find_others(None, None, None, slurm).arguments
    chosen = MagicMock()
    monkeypatch.setattr(of_jax.config, "update", chosen)
    of_jax.State().initialize(**arguments)
    chosen.assert_not_called()
    of_jax.State().initialize(**arguments | {"local_device_ids": None})
    chosen.assert_any_call("jax_cuda_visible_devices", "0")  # what it does by itself


def test_explicit_processes_are_not_detected_once_more():
    found = find_others("n1:1234", 2, 1, STEP).arguments
    assert found["cluster_detection_method"] == "deactivate"
    assert (found["num_processes"], found["process_id"]) == (2, 1)


@pytest.mark.parametrize("env", [OPEN_MPI, MPICH], ids=["Open MPI 5", "MPICH"])
def test_on_one_machine_they_meet_at_the_same_port(env, monkeypatch):
    monkeypatch.setattr(launchers, "_launcher_pid", lambda rank: 4097)
    found = find_others(None, None, None, env).arguments
    assert found["coordinator_address"] == "127.0.0.1:61441"
    assert found["num_processes"] == 2


@pytest.mark.parametrize("env", SEVERAL_MACHINES.values(), ids=SEVERAL_MACHINES)
def test_on_several_machines_an_address_is_asked_for(env, monkeypatch):
    monkeypatch.setattr(launchers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="give --coordinator=HOST:PORT"):
        find_others(None, None, None, env)
    found = find_others("n1:1234", None, None, env).arguments
    assert found["coordinator_address"] == "n1:1234" and "process_id" in found


def test_mpi4py_of_another_mpi_is_noticed(monkeypatch):
    monkeypatch.setattr(launchers.importlib.util, "find_spec", lambda name: name)
    joining = find_others(None, None, None, SEVERAL_MACHINES["MPICH"])
    assert joining.arguments == {
        "cluster_detection_method": "mpi4py",
        "local_device_ids": [],
    }
    with pytest.raises(RunStopped, match="MPICH started 2 .* JAX found 1; .*mpi4py"):
        distributed._check_count(joining)
    distributed._check_count(joining._replace(count=1))


def test_processes_with_different_numbers_of_them_are_noticed():
    joining = find_others("n1:1234", 3, 1, {})
    with pytest.raises(RunStopped, match="as one of 3, but process 0 as one of 1; "):
        distributed._check_count(joining)
    distributed._check_count(find_others("n1:1234", 1, 0, {}))


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (tf_config("ps"), "a ps, which does not train"),
        (tf_config("worker", 2), "cannot be read"),
        ({"TF_CONFIG": "{"}, "cannot be read"),
        ({"TF_CONFIG": "[1]"}, "cannot be read"),
    ],
)
def test_a_tf_config_that_cannot_be_followed_is_refused(env, words):
    with pytest.raises(InputError, match=words):
        find_others(None, None, None, env)


def test_a_coordinator_alone_needs_a_launcher():
    with pytest.raises(InputError, match="the number of processes is unknown"):
        find_others("n1:1234", None, None, {})


@pytest.mark.parametrize("address", ["n1", "n1:", ":1", "n1:70000", "n1:http"])
def test_a_coordinator_is_host_and_port(address):
    with pytest.raises(InputError, match="it must be HOST:PORT"):
        TrainConfig(coordinator=address)


def test_the_launcher_is_found_above_a_shell_of_the_rank():
    code = (
        "import os; from byol_bnfree.training.launchers import _launcher_pid; "
        "print(os.getppid(), _launcher_pid('PMI_RANK'))"
    )
    shell = f'{sys.executable} -c "{code}"; true'  # `; true`, or sh becomes it
    command = ["env", "PMI_RANK=1", "sh", "-c", shell]
    printed = subprocess.run(command, capture_output=True, text=True).stdout.split()
    assert printed[0] != printed[1]


def test_every_process_that_waits_in_vain_says_so_and_ends_with_a_sentence():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "byol_bnfree.train", "--run.join-seconds=4"]
    command += [f"--coordinator={address}", "--num-processes=3"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    waiting = [
        subprocess.Popen([*command, f"--process-id={index}"], **pipes)
        for index in range(2)
    ]
    for process in waiting:
        out, error = process.communicate(timeout=120)
        assert process.returncode == 2
        assert "waiting for" in out and "--num-processes=3" in out
        # Process 1 may find that process 0 has given up a moment before it.
        missing = f"(the other processes|process 0) at {address}"
        assert re.match(f"error: waited 4 s for {missing}", error), error
