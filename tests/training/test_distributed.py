"""A cluster manager is recognized by what it leaves in the environment."""

import pytest

from byol_bnfree.training.distributed import in_cluster

ALONE = {
    "a laptop": {},
    "a SLURM job of one task": {"SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "1"},
    "a SLURM shell outside srun": {"SLURM_NTASKS": "8"},
    "mpirun of one process": {
        "OMPI_MCA_orte_hnp_uri": "1;tcp://n1:1",
        "OMPI_COMM_WORLD_SIZE": "1",
    },
    "a pod that is not of an indexed job": {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
}
TOGETHER = {
    "srun of eight tasks": {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "8"},
    "mpirun of two processes": {
        "OMPI_MCA_orte_hnp_uri": "1;tcp://n1:1",
        "OMPI_COMM_WORLD_SIZE": "2",
    },
    "a pod of an indexed job": {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "JOB_COMPLETION_INDEX": "0",
    },
}


@pytest.mark.parametrize("env", ALONE.values(), ids=ALONE)
def test_one_process_does_not_wait_for_others(env):
    assert not in_cluster(env)


@pytest.mark.parametrize("env", TOGETHER.values(), ids=TOGETHER)
def test_several_processes_are_noticed(env):
    assert in_cluster(env)
