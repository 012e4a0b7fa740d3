"""A resume keeps the environment of the steps before it, and names what matters."""

import json
from types import SimpleNamespace

import jax
import pytest

import tiny
from byol_bnfree.training import environment
from byol_bnfree.training.environment import keep_earlier
from byol_bnfree.training.manifest import MANIFEST
from byol_bnfree.training.program import Program
from byol_bnfree.whole_run.resume import write_inputs

FIRST = {"commit": "a", "packages": {"jax": "1"}, "kernels": "XLA", "argv": ["x"]}
KEPT = "environment.4.json"


def saved(workdir, where, step=4):
    (workdir / "environment.json").write_text(json.dumps(where))
    folder = workdir / "checkpoints" / str(step)
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text("{}")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"commit": "b"}, "up to step 4 .* (commit: a -> b)"),
        ({"packages": {"jax": "2"}}, "packages.jax: 1 -> 2"),
        ({"kernels": "oneDNN"}, "kernels: XLA -> oneDNN"),
        ({"matmul_precision": "bfloat16"}, "matmul_precision: None -> bfloat16"),
        ({"xla_flags": "--x"}, "xla_flags: None -> --x"),
        ({"argv": ["y"]}, None),
    ],
)
def test_another_environment_is_named_and_the_earlier_one_kept(change, words, tmp_path):
    saved(tmp_path, FIRST)
    said = keep_earlier(tmp_path, FIRST | change)
    assert json.loads((tmp_path / KEPT).read_text()) == FIRST
    assert (said is None) == (words is None)
    assert words is None or words.split(" .* ")[-1] in said


def test_the_same_environment_is_kept_once(tmp_path):
    saved(tmp_path, FIRST)
    assert keep_earlier(tmp_path, FIRST) is None
    assert not (tmp_path / KEPT).exists()


def test_a_resume_that_saved_nothing_does_not_hide_who_trained(tmp_path):
    saved(tmp_path, FIRST)
    second = FIRST | {"commit": "b"}
    keep_earlier(tmp_path, second)
    (tmp_path / "environment.json").write_text(json.dumps(second))
    assert "commit: a -> c" in keep_earlier(tmp_path, FIRST | {"commit": "c"})
    assert json.loads((tmp_path / KEPT).read_text()) == FIRST


def test_a_run_without_a_checkpoint_keeps_nothing(tmp_path):
    (tmp_path / "environment.json").write_text(json.dumps(FIRST))
    assert keep_earlier(tmp_path, FIRST | {"commit": "b"}) is None
    assert not list(tmp_path.glob("environment.*.json"))


def test_a_resumed_run_writes_both_environments(tmp_path, capsys):
    saved(tmp_path, FIRST)
    fields = dict.fromkeys(Program._fields)
    fields |= {"config": tiny.config(), "kernels": "oneDNN"}
    program = tuple.__new__(Program, fields.values())
    write_inputs(tmp_path, program, SimpleNamespace(description={}))
    assert json.loads((tmp_path / KEPT).read_text()) == FIRST
    now = json.loads((tmp_path / "environment.json").read_text())
    assert now["kernels"] == "oneDNN"
    assert "kernels: XLA -> oneDNN" in capsys.readouterr().out


def test_a_copy_without_git_has_the_commit_of_its_variable(tmp_path, monkeypatch):
    below = tmp_path / "byol_bnfree" / "training" / "environment.py"
    monkeypatch.setattr(environment, "__file__", str(below))
    monkeypatch.delenv("BYOL_COMMIT", raising=False)
    assert environment.environment()["commit"] is None
    monkeypatch.setenv("BYOL_COMMIT", "abc")
    assert environment.environment()["commit"] == "abc"
    # As in a copy of a worktree, whose .git names a folder of another machine.
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    assert environment.environment()["commit"] == "abc"
    monkeypatch.setenv("PATH", "")  # no git
    assert environment.environment()["commit"] == "abc"


def test_what_changes_the_rounding_of_products_is_recorded(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_use_thunk_runtime=true")
    with jax.default_matmul_precision("highest"):
        found = environment.environment()
    assert found["matmul_precision"] == "highest"
    assert found["xla_flags"] == "--xla_cpu_use_thunk_runtime=true"
