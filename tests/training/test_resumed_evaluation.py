"""A resumed run measures the step that an earlier part saved but did not evaluate."""

import jax.numpy as jnp
import pytest

import tiny
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.training.best import Best
from byol_bnfree.training.checkpoint import Checkpoints
from byol_bnfree.training.journal import Journal
from byol_bnfree.training.logs import MetricsLog
from byol_bnfree.training.loop import Evaluation, run_loop
from byol_bnfree.training.program import Program
from byol_bnfree.training.progress import progress
from byol_bnfree.training.state import TrainState

STEP = 4
OF_TRAINING = {"train/loss": 1.0}


def resumed(tmp_path, every: int, monkeypatch) -> list[int]:
    """The steps that are measured by a run resumed at its last step."""
    monkeypatch.setattr(Checkpoints, "steps", lambda self: [STEP])
    monkeypatch.setattr(Checkpoints, "save", lambda self, step, state: None)
    monkeypatch.setattr(Checkpoints, "wait", lambda self: None)
    measured = []
    fields = dict.fromkeys(Program._fields)
    fields |= {"config": tiny.config(), "total_steps": STEP, "warmup_steps": 0}
    program = tuple.__new__(Program, fields.values())  # no step is left to take
    state = object.__new__(TrainState)
    object.__setattr__(state, "step", jnp.int32(STEP))
    (tmp_path / "checkpoints" / str(STEP)).mkdir(parents=True)

    def measure(state: TrainState) -> dict[str, float]:
        measured.append(int(state.step))
        return {"knn/top1": 0.5}

    with progress(STEP, STEP, primary=False) as shown:
        run_loop(
            program,
            state,
            object.__new__(Batches),
            Journal(program, MetricsLog(tmp_path), shown),
            object.__new__(Checkpoints),
            evaluation=Evaluation(every, measure),
            best=Best(tmp_path),
        )
    return measured


def test_a_lost_evaluation_is_made_before_the_next_step(tmp_path, monkeypatch):
    MetricsLog(tmp_path).write(STEP, OF_TRAINING)
    assert resumed(tmp_path, 2, monkeypatch) == [STEP]
    assert MetricsLog(tmp_path).rows()[-1] == {"step": STEP, "knn/top1": 0.5}
    assert (tmp_path / "best" / "checkpoints" / str(STEP)).is_dir()


@pytest.mark.parametrize("every, logged", [(2, True), (3, False)])
def test_no_evaluation_is_made_twice_or_at_another_step(
    every, logged, tmp_path, monkeypatch
):
    log = MetricsLog(tmp_path)
    log.write(STEP, OF_TRAINING)
    if logged:
        log.write(STEP, {"knn/top1": 0.4})
    assert resumed(tmp_path, every, monkeypatch) == []
