"""A folder is bound to its settings by what it has of a run, and by nothing less."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

import tiny
from byol_bnfree.config import ViewsConfig
from byol_bnfree.errors import InputError, RunStopped
from byol_bnfree.training.checkpoint import Checkpoints
from byol_bnfree.training.divergence import DIVERGED, Diverged, divergence_explained
from byol_bnfree.training.manifest import MANIFEST
from byol_bnfree.whole_run.resume import began_as, check_resumable, forget_abandoned

DATA = SimpleNamespace(description={})


def commit(folder, step=4):
    (folder / str(step)).mkdir(parents=True)
    (folder / str(step) / MANIFEST).write_text("{}")


@pytest.fixture
def begun(tmp_path):
    """A folder of a run that has not saved yet."""
    settings = dataclasses.asdict(tiny.config(compute_dtype="bfloat16"))
    (tmp_path / "config.json").write_text(json.dumps(settings))
    return tmp_path


def test_a_run_that_saved_nothing_may_begin_anew_with_other_settings(begun, capsys):
    (begun / "checkpoints" / "4").mkdir(parents=True)  # never committed
    assert not check_resumable(begun, tiny.config(batch_size=4), DATA)
    (line,) = capsys.readouterr().out.splitlines()
    assert "without a checkpoint" in line and "batch_size: 8 -> 4" in line
    assert began_as(str(begun)) == {}  # it chooses its own dtype too


def test_a_run_that_saved_nothing_begins_anew_without_a_word(begun, capsys):
    same = tiny.config(compute_dtype="bfloat16")
    assert not check_resumable(begun, same, DATA)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("where", ["checkpoints", "best/checkpoints", "summary.json"])
def test_a_run_that_has_something_refuses_other_settings(begun, where):
    if where == "summary.json":
        (begun / where).write_text("{}")
    else:
        commit(begun / where)
    assert began_as(str(begun))["compute_dtype"] == "bfloat16"
    with pytest.raises(InputError, match="other settings .*batch_size: 8 -> 4"):
        check_resumable(begun, tiny.config(batch_size=4), DATA)


@pytest.mark.parametrize("where", ["checkpoints", "best/checkpoints", "summary.json"])
def test_a_run_without_its_settings_is_not_resumed_with_others(tmp_path, where):
    if where == "summary.json":
        (tmp_path / where).write_text("{}")
    else:
        commit(tmp_path / where)
    with pytest.raises(InputError, match="without its config.json.*restore"):
        check_resumable(tmp_path, tiny.config(), DATA)


def test_settings_that_cannot_be_read_are_restored_and_not_deleted(begun):
    for content in ("{", "[]"):
        (begun / "config.json").write_text(content)
        with pytest.raises(InputError, match="; restore it.$"):
            check_resumable(begun, tiny.config(), DATA)


@pytest.mark.parametrize("damage", [{"augment": 3}, {"own_code": 5}, {"extensions": 5}])
def test_settings_of_another_form_are_refused_in_a_sentence(begun, damage):
    commit(begun / "checkpoints")
    saved = dataclasses.asdict(tiny.config()) | damage
    (begun / "config.json").write_text(json.dumps(saved))
    with pytest.raises(InputError, match="restore config.json|it must be a tuple"):
        check_resumable(begun, tiny.config(), DATA)


def test_only_a_run_that_saved_something_keeps_its_list_of_bad_pictures(begun):
    rows = [begun / name for name in ("skipped.jsonl", "skipped-1.jsonl")]
    for saved in (True, False):
        for path in rows:
            path.write_text("")
        if saved:
            (begun / "summary.json").write_text("{}")
        else:
            (begun / "summary.json").unlink()
        forget_abandoned(begun)
        assert [path.exists() for path in rows] == [saved, saved]


def test_what_gives_the_same_gradient_may_change(begun):
    commit(begun / "checkpoints")
    other = tiny.config(
        **{"compute_dtype": "bfloat16", "micro_batches": 2, "remat": True},
        views=ViewsConfig(accumulate=True),
    )
    check_resumable(begun, other, DATA)


@pytest.mark.parametrize(
    "kept, words",
    [
        ([], "at step 3; no checkpoint was saved before it: lower --base-lr or"),
        ([1, 2], "at step 3; the checkpoint of step 2 is kept: .* another --workdir"),
    ],
)
def test_a_divergence_says_what_is_kept(kept, words, monkeypatch):
    monkeypatch.setattr(Checkpoints, "wait", lambda self: None)
    monkeypatch.setattr(Checkpoints, "steps", lambda self: kept)
    explained = divergence_explained(object.__new__(Checkpoints))
    with pytest.raises(RunStopped, match=words) as stopped, explained:
        raise Diverged("train/loss is nan at step 3", DIVERGED)
    assert stopped.value.status == DIVERGED
