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


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert usable_cores() == 1
