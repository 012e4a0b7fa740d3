"""Pictures are decoded on as many cores as there are, unless a setting says."""

import sys
from types import SimpleNamespace

import pytest

from byol_bnfree.data import workers
from byol_bnfree.data.workers import usable_cores, worker_processes


def main_is(monkeypatch, module: str | None, file: str | None = None):
    spec = SimpleNamespace(name=module) if module else None
    monkeypatch.setitem(
        sys.modules, "__main__", SimpleNamespace(__spec__=spec, __file__=file)
    )


@pytest.mark.parametrize(
    "cores, expected", [(1, 0), (2, 0), (3, 0), (4, 3), (16, 15), (1000, 512)]
)
def test_a_command_leaves_one_core_for_the_run(cores, expected, monkeypatch):
    monkeypatch.setattr(workers, "usable_cores", lambda: cores)
    main_is(monkeypatch, "byol_bnfree.train")
    assert worker_processes(None) == expected
    assert worker_processes(0) == 0 and worker_processes(2) == 2


@pytest.mark.parametrize(
    "module, file, ours",
    [
        ("byol_bnfree.train", None, True),
        ("experiments.norm_comparison.__main__", None, True),
        (None, "/usr/bin/byol-train", True),
        (None, "/home/me/study.py", False),
        ("study", None, False),
        (None, None, False),  # a notebook
    ],
)
def test_a_users_own_program_is_not_imported_again(module, file, ours, monkeypatch):
    """Processes would do so, and train once more, unless it guards its main part."""
    monkeypatch.setattr(workers, "usable_cores", lambda: 8)
    main_is(monkeypatch, module, file)
    assert worker_processes(None) == (7 if ours else 0)


@pytest.fixture
def machine(monkeypatch):
    """Sets the cores of the machine, of this process and of its quota."""

    def set_cores(of_machine, own, quota=None, environment=()):
        affinity = None if own is None else lambda pid: set(range(own))
        monkeypatch.setattr("os.sched_getaffinity", affinity, raising=False)
        monkeypatch.setattr("os.cpu_count", lambda: of_machine)
        monkeypatch.setattr(workers, "cpu_quota", lambda: quota)
        monkeypatch.setattr("os.environ", dict(environment))

    return set_cores


TWO_HERE = {
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}


@pytest.mark.parametrize(
    "of_machine, own, quota, expected",
    [(8, 3, None, 3), (None, None, None, 1), (8, None, None, 8)]
    + [(64, 64, 4.5, 4), (64, 2, 4.0, 2), (64, 64, 0.5, 1)],
)
def test_cores_are_those_that_the_process_may_use(
    of_machine, own, quota, expected, machine
):
    machine(of_machine, own, quota)
    assert usable_cores() == expected


@pytest.mark.parametrize(
    "of_machine, own, quota, expected",
    # In the last, each may have a half of its own.
    [(16, 16, None, 8), (16, 16, 6.0, 3), (1, 1, None, 1), (16, 8, None, 8)],
)
def test_processes_of_a_launcher_share_the_cores(
    of_machine, own, quota, expected, machine
):
    machine(of_machine, own, quota, TWO_HERE)
    assert usable_cores() == expected


@pytest.mark.parametrize(
    "files, expected",
    [
        ({}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "250000 100000"}, 2.5),
        ({"cpu.max": "what"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4.0),
        # A SLURM job has a group of its own, below that of its machine.
        ({"cpu.max": "max 100000", "slurm/job_7/cpu.max": "250000 100000"}, 2.5),
        ({"cpu.max": "200000 100000", "slurm/job_7/cpu.max": "max 100000"}, 2.0),
    ],
)
def test_the_quota_of_containers_and_jobs_is_read(files, expected, tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "slurm/job_7").mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    own = tmp_path / "own"
    own.write_text("3:cpu,cpuacct:/\n0::/slurm/job_7/step_0\n")
    assert workers.cpu_quota(tmp_path, own) == expected
