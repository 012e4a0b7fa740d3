"""However a run ends, its last step is saved, and the message says so."""

import dataclasses
import os
import signal
import time
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

import tiny
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.errors import Interrupted, RunStopped
from byol_bnfree.settings.run import RunConfig
from byol_bnfree.training import save_timer
from byol_bnfree.training.checkpoint import Checkpoints
from byol_bnfree.training.divergence import Diverged
from byol_bnfree.training.journal import AHEAD, MUST_BE_FINITE, Journal
from byol_bnfree.training.judge import COLLAPSED, MEASURES
from byol_bnfree.training.logs import MetricsLog
from byol_bnfree.training.loop import Evaluation, run_loop
from byol_bnfree.training.parts import DataShape
from byol_bnfree.training.program import Program
from byol_bnfree.training.progress import Progress, progress
from byol_bnfree.training.state import TrainState
from byol_bnfree.training.step import StepOutputs

TOTAL = 12
FINE = dict.fromkeys(MUST_BE_FINITE, 1.0)
FINE |= {f"collapse/{name}": 0.5 for name in MEASURES} | {"collapse/centered_rank": 9.0}
LOST = FINE | {f"collapse/{name}": 1e-6 for name in MEASURES}


def loop(workdir, monkeypatch, metrics_of, on_row=None, given=True, **options):
    """A run of 12 steps, two of them ahead, whose metrics `metrics_of(step)` gives."""
    monkeypatch.setattr(Batches, "iterate", lambda *_: (n for n in range(TOTAL)))
    names = (field.name for field in dataclasses.fields(TrainState))
    state = TrainState(**{name: {"encoder": jnp.ones(2)} for name in names})
    state = state.replace(step=jnp.int32(0))

    def step(state, batch):
        metrics = {k: jnp.float32(v) for k, v in metrics_of(batch + 1).items()}
        outputs = StepOutputs(*3 * [jnp.ones((2, 2))])
        return state.replace(step=state.step + 1), metrics, outputs

    config = tiny.config(on_collapse="stop", run=RunConfig(log_every=1))
    if given:
        config = dataclasses.replace(config, workdir=str(workdir))
    fields = dict.fromkeys(Program._fields) | {"config": config, "step": step}
    fields |= {"total_steps": TOTAL, "warmup_steps": 0, "collapse": lambda _: {}}
    fields |= {"data": DataShape(48, 3, (8, 8, 3))}
    program = tuple.__new__(Program, fields.values())
    checkpoints = Checkpoints(workdir, keep=1)
    with progress(TOTAL, 0, primary=False) as shown:
        journal = Journal(program, MetricsLog(workdir, True, on_row), shown)
        journal._ahead = 2
        monkeypatch.setattr(journal, "next_batch", lambda stream: next(stream))
        try:
            run_loop(
                program,
                state,
                object.__new__(Batches),
                journal,
                checkpoints,
                **options,
            )
        finally:
            checkpoints.close()


def saved(workdir):
    return [int(path.parent.name) for path in workdir.glob("checkpoints/*/manifest.*")]


def test_a_collapse_is_saved_although_later_rows_show_it_too(tmp_path, monkeypatch):
    """Row 5 is the last of patience; the steps 6 and 7 run already."""
    with pytest.raises(RunStopped, match="Step 7 is saved; .*warn goes on") as stopped:
        loop(tmp_path, monkeypatch, lambda step: LOST)
    assert stopped.value.status == COLLAPSED and saved(tmp_path) == [7]
    assert [row["step"] for row in MetricsLog(tmp_path).rows()] == [*range(1, 8)]


def test_a_run_in_a_new_folder_names_it_in_the_command(tmp_path, monkeypatch):
    with pytest.raises(RunStopped) as stopped:
        loop(tmp_path, monkeypatch, lambda step: LOST, given=False)
    flags = f"--on-collapse=warn and --workdir={tmp_path}"
    assert str(stopped.value).endswith(f"the same command with {flags} goes on.")


def test_a_number_that_is_not_finite_after_a_collapse_is_not_saved(
    tmp_path, monkeypatch
):
    nan = LOST | {"train/loss": jnp.nan}
    with pytest.raises(Diverged, match="train/loss is nan at step 7"):
        loop(tmp_path, monkeypatch, lambda step: nan if step == 7 else LOST)
    assert saved(tmp_path) == []


def test_an_error_of_the_caller_is_raised_although_the_run_collapses(
    tmp_path, monkeypatch
):
    def refuse(row):
        if row["step"] == 5:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        loop(tmp_path, monkeypatch, lambda step: LOST, refuse)
    assert saved(tmp_path) == [7]


def test_a_signal_during_the_last_evaluation_ends_the_run(tmp_path, monkeypatch):
    """It was announced that the run saves and stops."""
    said = []
    monkeypatch.setattr(Progress, "say", lambda self, text: said.append(text))

    def measure(state):
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 20
        while not any("SIGTERM" in text for text in said):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return {"knn/top1": 0.5}

    last = Evaluation(TOTAL, measure)
    with pytest.raises(Interrupted, match="saved at step 12 of 12") as stopped:
        loop(tmp_path, monkeypatch, lambda step: FINE, evaluation=last)
    assert stopped.value.status == 128 + signal.SIGTERM and saved(tmp_path) == [12]
    assert MetricsLog(tmp_path).rows()[-1] == {"step": TOTAL, "knn/top1": 0.5}


def saver_of(run: RunConfig) -> save_timer.SaveTimer:
    fields = dict.fromkeys(Program._fields) | {"config": tiny.config(run=run)}
    program = tuple.__new__(Program, (fields | {"total_steps": 12}).values())
    return save_timer.SaveTimer(program)


def test_each_save_starts_the_clock_anew(monkeypatch):
    """Steps of 4 s: after 10 s, at step 5, 10 s after that, and so on."""
    clock = SimpleNamespace(monotonic=lambda: 4.0 * step)
    monkeypatch.setattr(save_timer, "time", clock)
    step = 0
    timer, saved = saver_of(RunConfig(checkpoint_seconds=10, checkpoint_steps=5)), []
    for step in range(1, 13):
        saved += [step] * timer.due(step)
    assert saved == [3, 5, 8, 10]


def test_processes_read_the_decision_to_save_when_its_step_is_done(monkeypatch):
    """By then the journal has waited for the step; until then no process may wait."""
    sent, read = [], []

    class Decision:
        def __init__(self, flag):
            self.flag = flag
            sent.append(now)

        def __bool__(self):
            read.append(now)
            return self.flag

    monkeypatch.setattr(save_timer, "spread", Decision)
    monkeypatch.setattr(Program, "processes", 2)
    timer, saved = saver_of(RunConfig(log_every=4, checkpoint_seconds=1e-9)), []
    for now in range(1, 13):
        saved += [now] * timer.due(now)
    assert sent == [1, 4, 8, 12]  # the logged steps
    assert read == saved == [step + AHEAD for step in sent[:-1]]
