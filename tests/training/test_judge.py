"""A collapse is said once; --on-collapse=stop also ends a resumed run because of it."""

from functools import partial
from pathlib import Path

import pytest

import tiny
from byol_bnfree.errors import same_command
from byol_bnfree.training.checkpoint import Checkpoints
from byol_bnfree.training.judge import MEASURES, Collapsed, Judge
from byol_bnfree.training.loop import _stopped_by_error
from byol_bnfree.training.program import Program

LOST = {f"collapse/{name}": 1e-6 for name in MEASURES}
PATIENCE = 5  # rows


def judge_of(on_collapse: str, warmup_steps: int = 0) -> tuple[Judge, list[str]]:
    config = tiny.config(on_collapse=on_collapse)
    said: list[str] = []
    fields = dict.fromkeys(Program._fields) | {"config": config}
    fields["warmup_steps"] = warmup_steps
    program = tuple.__new__(Program, fields.values())  # the judge needs no functions
    return Judge(program, said.append), said


def test_a_collapse_stops_the_run_at_its_last_row_of_patience():
    judge, said = judge_of("stop")
    for step in range(2, 1 + PATIENCE):
        judge.judge(step, LOST)
    with pytest.raises(Collapsed, match="collapsed at step 2 "):
        judge.judge(1 + PATIENCE, LOST)
    assert len(said) == 1 and "collapsed since step 2" in said[0]


def test_the_row_before_the_first_update_is_that_of_the_untrained_network():
    """Limits are shares of it: a network that starts small has not shrunk."""
    judge, said = judge_of("stop")
    small = {"feature_std": 0.03, "negative_cosine": 0.9995, "centered_rank": 12.0}
    row = {f"collapse/{name}": value for name, value in small.items()}
    for step in range(1, 3 + PATIENCE):
        judge.judge(step, row)
    assert judge.watch.verdict.state == "healthy" and not said


def test_no_run_is_stopped_in_the_warm_up_of_its_program():
    judge, said = judge_of("stop", warmup_steps=20)
    for step in range(2, 20 + PATIENCE - 1):
        judge.judge(step, LOST)
    with pytest.raises(Collapsed, match="collapsed at step 20 "):
        judge.judge(20 + PATIENCE - 1, LOST)
    assert "drifting since step 2:" in said[0] and "collapsed since step 20:" in said[1]


@pytest.mark.parametrize("rows", [PATIENCE, 2 * PATIENCE])
def test_a_resumed_run_that_is_still_collapsed_stops_again(rows):
    judge, said = judge_of("stop")
    for step in range(2, 2 + rows):
        judge.see(step, LOST)
    with pytest.raises(Collapsed, match="collapsed at step 2 "):
        judge.judge(2 + rows, LOST)
    assert not said  # it is no news


def test_a_resumed_run_with_warn_goes_on():
    judge, said = judge_of("warn")
    for step in range(2, 2 + PATIENCE):
        judge.see(step, LOST)
    judge.judge(2 + PATIENCE, LOST)
    assert not said


def test_the_message_of_a_collapse_names_the_way_to_go_on(monkeypatch):
    monkeypatch.setattr(Checkpoints, "steps", lambda self: [7])
    checkpoints = object.__new__(Checkpoints)
    arguments = (7, lambda: None, checkpoints)
    for given, warn, same in (
        ("runs/a", "--on-collapse=warn", "the same command"),
        (
            None,
            "--on-collapse=warn and --workdir=runs/b",
            "the same command with --workdir=runs/b",
        ),
    ):
        again = partial(same_command, given, Path("runs/b"))
        stopped = _stopped_by_error(Collapsed("x.", 3), *arguments, again)
        assert str(stopped).endswith(f"the same command with {warn} goes on.")
        stopped = _stopped_by_error(OSError("x."), *arguments, again)
        assert str(stopped).endswith(f"{same} resumes.")
