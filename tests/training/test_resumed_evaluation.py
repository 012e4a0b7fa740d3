"""A resumed run measures the step that an earlier part saved but did not evaluate."""

import contextlib
import dataclasses
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

import tiny
from byol_bnfree.config import EvalConfig, RunConfig
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.training.best import Best
from byol_bnfree.training.checkpoint import Checkpoints
from byol_bnfree.training.journal import Journal
from byol_bnfree.training.logs import MetricsLog
from byol_bnfree.training.loop import Evaluation, _Keeper, run_loop
from byol_bnfree.training.manifest import verify_manifest
from byol_bnfree.training.program import Program
from byol_bnfree.training.progress import progress
from byol_bnfree.training.state import TrainState
from byol_bnfree.whole_run.steps import _periodic

STEP = 4
OF_TRAINING = {"train/loss": 1.0}


def resumed(tmp_path, every: int, monkeypatch, last: bool = False) -> list[int]:
    """The steps that are measured by a run resumed at its last step."""
    monkeypatch.setattr(Checkpoints, "steps", lambda self: [STEP])
    monkeypatch.setattr(Checkpoints, "save", lambda self, step, state: None)
    monkeypatch.setattr(Checkpoints, "wait", lambda self: None)
    checkpoints, measured = object.__new__(Checkpoints), []
    checkpoints.workdir = tmp_path
    fields = dict.fromkeys(Program._fields)
    fields |= {"config": tiny.config(), "total_steps": STEP, "warmup_steps": 0}
    program = tuple.__new__(Program, fields.values())  # no step is left to take
    state = object.__new__(TrainState)
    object.__setattr__(state, "step", jnp.int32(STEP))
    (tmp_path / "checkpoints" / str(STEP)).mkdir(parents=True, exist_ok=True)

    def measure(state: TrainState) -> dict[str, float]:
        measured.append(int(state.step))
        return {"knn/top1": 0.5}

    with progress(STEP, STEP, primary=False) as shown:
        run_loop(
            program,
            state,
            object.__new__(Batches),
            Journal(program, MetricsLog(tmp_path), shown),
            checkpoints,
            evaluation=Evaluation(every, measure, last),
            best=Best(tmp_path, {}, pytest.fail),
        )
    return measured


def test_a_lost_evaluation_is_made_before_the_next_step(tmp_path, monkeypatch):
    MetricsLog(tmp_path).write(STEP, OF_TRAINING)
    assert resumed(tmp_path, 2, monkeypatch) == [STEP]
    assert MetricsLog(tmp_path).rows()[-1] == {"step": STEP, "knn/top1": 0.5}
    assert (tmp_path / "best" / "checkpoints" / str(STEP)).is_dir()


class Killed(BaseException):
    pass


def test_a_run_that_is_killed_before_the_best_is_kept_keeps_it_later(
    tmp_path, monkeypatch
):
    """Nothing runs after a kill, so no row may say that the step is done."""
    MetricsLog(tmp_path).write(STEP, OF_TRAINING)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Best, "take", lambda self, step: throw(Killed))
        resumed(tmp_path, 2, patched)
    assert resumed(tmp_path, 2, monkeypatch) == [STEP]
    assert (tmp_path / "best" / "checkpoints" / str(STEP)).is_dir()
    assert MetricsLog(tmp_path).rows()[-1] == {"step": STEP, "knn/top1": 0.5}


def small_state() -> TrainState:
    """A state with an array in every field."""
    names = (field.name for field in dataclasses.fields(TrainState))
    fields = {name: {"encoder": jnp.arange(4.0)} for name in names}
    return TrainState(**fields | {"step": jnp.int32(STEP)})


def test_a_damaged_checkpoint_is_replaced_before_it_is_the_best(tmp_path):
    """As after a resume from the one before it."""
    state = small_state()
    with contextlib.closing(Checkpoints(tmp_path, keep=2)) as before:
        before.save(STEP, state)
    folder = tmp_path / "checkpoints" / str(STEP)
    large = max(folder.rglob("*"), key=lambda p: p.is_file() and p.stat().st_size)
    large.write_bytes(b"")
    assert verify_manifest(folder)
    with contextlib.closing(Checkpoints(tmp_path, keep=2)) as checkpoints:
        best = Best(tmp_path, {}, pytest.fail)
        keeper = _Keeper(object.__new__(Journal), checkpoints, best)
        keeper._keep_best(STEP, state, best)
    assert not verify_manifest(tmp_path / "best" / "checkpoints" / str(STEP))


def throw(error: type[BaseException]) -> None:
    raise error


def test_the_last_step_is_measured_when_asked_for_at_any_interval(
    tmp_path, monkeypatch
):
    MetricsLog(tmp_path).write(STEP, OF_TRAINING)
    assert resumed(tmp_path, 3, monkeypatch, last=True) == [STEP]
    assert resumed(tmp_path, 3, monkeypatch, last=True) == []  # it has its row


@pytest.mark.parametrize(
    "last, due", [(False, [3, 6]), (True, [3, 6, 8])], ids=["usual", "last"]
)
def test_the_steps_that_are_measured(last, due):
    evaluation = Evaluation(3, dict, last)
    assert [step for step in range(9) if evaluation.due(step, 8)] == due


@pytest.mark.parametrize(
    "fields, all_images, last",
    [
        ({}, False, True),  # a quick kNN before, and kNN on all images at the end
        ({}, True, False),  # the end of the run measures the same
        ({"knn_every_epochs": 1.0}, False, False),
        ({"knn_every_epochs": 1.0, "skip": True}, False, True),
        ({"knn_every_epochs": 99.0, "skip": True}, False, False),
    ],
)
@pytest.mark.parametrize("keep", [False, True])
def test_the_last_step_is_measured_unless_the_end_repeats_it(
    fields, all_images, last, keep
):
    config = tiny.config(
        evaluation=EvalConfig(**fields), run=RunConfig(keep_best=keep), batch_size=8
    )
    program = SimpleNamespace(
        config=config, data=SimpleNamespace(num_examples=64), total_steps=20
    )
    evaluator = SimpleNamespace(
        possible=True, knn=1, quick_knn=2, quick=([0], [0]), quick_is_all=all_images
    )
    assert _periodic(program, evaluator).last == (last or keep)


@pytest.mark.parametrize("every, logged", [(2, True), (3, False)])
def test_no_evaluation_is_made_twice_or_at_another_step(
    every, logged, tmp_path, monkeypatch
):
    log = MetricsLog(tmp_path)
    log.write(STEP, OF_TRAINING)
    if logged:
        log.write(STEP, {"knn/top1": 0.4})
    assert resumed(tmp_path, every, monkeypatch) == []
