"""metrics.jsonl never holds half a row or a row twice; progress lines are readable."""

import io
import json
import math
import resource
import struct
import subprocess
import time

import jax.numpy as jnp
import pytest
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event

from byol_bnfree.errors import InputError
from byol_bnfree.training import environment as training_environment
from byol_bnfree.training import progress as progress_module
from byol_bnfree.training.environment import environment
from byol_bnfree.training.logs import MetricsLog
from byol_bnfree.training.progress import progress


def write_steps(workdir, *steps):
    log = MetricsLog(workdir)
    for step in steps:
        log.write(step, {"train/loss": step / 10})
    log.close()


def lines_of(workdir):
    return (workdir / "metrics.jsonl").read_text().splitlines()


def events_of(workdir):
    """All TensorBoard events: length, checksum, protobuf, checksum, over and over."""
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("Q", data[:8])
            yield Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]


def test_rows_come_back_as_written(tmp_path):
    log = MetricsLog(tmp_path)
    log.write(20, {"train/loss": jnp.float32(0.5), "probe/top1": 1})
    assert log.rows() == [{"step": 20, "train/loss": 0.5, "probe/top1": 1.0}]
    log.close()


def test_each_row_is_on_disk_when_write_returns(tmp_path):
    log = MetricsLog(tmp_path)
    log.write(1, {"train/loss": 0.5})
    assert len(lines_of(tmp_path)) == 1
    assert [e.step for e in events_of(tmp_path) if e.summary.value] == [1]
    log.close()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_values_are_null(tmp_path, value):
    log = MetricsLog(tmp_path)
    log.write(1, {"train/loss": value})
    log.close()
    (line,) = lines_of(tmp_path)
    assert json.loads(line, parse_constant=pytest.fail) == {
        "step": 1,
        "train/loss": None,
    }


@pytest.mark.parametrize(
    "line",
    [
        *('{"step": "3"}', '{"step": null}', '{"step": true}', '["step"]', '"step"'),
        '{"step": 3, "train/loss": "low"}',
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path, line):
    write_steps(tmp_path, 1, 2)
    rows = lines_of(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("\n".join([rows[0], line, rows[1], ""]))
    with pytest.raises(InputError, match="is damaged at line 2; delete that line"):
        MetricsLog(tmp_path)


@pytest.mark.parametrize("half", ['{"step": 3, "tr', '{"step": 3', "\0\0\0", "7\n"])
def test_half_written_last_line_is_dropped(tmp_path, half):
    write_steps(tmp_path, 1, 2)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(half)
    write_steps(tmp_path, 4)
    assert [json.loads(line)["step"] for line in lines_of(tmp_path)] == [1, 2, 4]


def test_cut_anywhere_in_the_last_row_loses_that_row_and_no_other(tmp_path):
    write_steps(tmp_path, 1, 2)
    content = (tmp_path / "metrics.jsonl").read_bytes()
    for end in range(content.index(b"\n") + 1, len(content)):
        (tmp_path / "metrics.jsonl").write_bytes(content[:end])
        log = MetricsLog(tmp_path)
        assert [row["step"] for row in log.rows()] == [1]
        log.close()


def test_new_events_go_to_a_new_file_so_a_cut_old_one_does_no_harm(tmp_path):
    write_steps(tmp_path, 1, 2)
    (old,) = (tmp_path / "tensorboard").iterdir()
    old.write_bytes(old.read_bytes()[:-5])
    cut = old.read_bytes()
    write_steps(tmp_path, 3)
    assert old.read_bytes() == cut
    old.unlink()
    assert [e.step for e in events_of(tmp_path) if e.summary.value] == [3]


def test_damaged_line_in_the_middle_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(InputError, match="damaged at line 2"):
        MetricsLog(tmp_path)


def test_resumed_run_has_no_row_twice(tmp_path):
    write_steps(tmp_path, 1, 2, 3, 4)
    kept = lines_of(tmp_path)[:2]
    log = MetricsLog(tmp_path)
    log.truncate_after(2)
    log.write(3, {"train/loss": 0.0})
    log.close()
    assert [row["step"] for row in log.rows()] == [1, 2, 3]
    assert lines_of(tmp_path)[:2] == kept


def test_tensorboard_is_told_where_the_run_resumed(tmp_path):
    write_steps(tmp_path, 1, 2, 3)
    log = MetricsLog(tmp_path)
    log.truncate_after(2)
    log.write(3, {"train/loss": 0.0})
    log.close()
    starts = [e.step for e in events_of(tmp_path) if e.session_log.status]
    assert starts == [3]  # TensorBoard forgets what it had from this step on
    values = [(e.step, v.tag) for e in events_of(tmp_path) for v in e.summary.value]
    assert values[-1] == (3, "train/loss")


def test_full_disk_is_raised_and_leaves_whole_rows(tmp_path):
    write_steps(tmp_path, 1)
    log = MetricsLog(tmp_path)
    size = (tmp_path / "metrics.jsonl").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, hard))
    try:
        with pytest.raises(OSError, match=f"row of step 2 .* in {tmp_path}: File too"):
            log.write(2, {"train/loss": 0.2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "metrics.jsonl").stat().st_size == size
    log.close()


def test_deleted_file_is_not_written_on_silently(tmp_path):
    log = MetricsLog(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(OSError, match="metrics.jsonl was deleted while the run"):
        log.write(1, {"train/loss": 0.1})
    log.close()


def test_other_processes_write_nothing(tmp_path):
    log = MetricsLog(tmp_path, primary=False)
    log.write(1, {"train/loss": 0.5})
    log.truncate_after(0)
    log.close()
    assert log.rows() == [] and not list(tmp_path.iterdir())


def test_environment_says_what_it_takes_to_repeat_a_run():
    found = json.loads(json.dumps(environment()))
    assert found["packages"].keys() >= {"jax", "flax", "optax", "numpy"}
    assert found["devices"] == ["cpu", "cpu"] and found["processes"] == 1
    assert found["cpu"] and found["cores"] >= 1 and found["memory_gib"] > 0
    commit = found["commit"]  # None outside a checkout
    assert commit is None or len(commit.removesuffix("-dirty")) == 40


def test_a_commit_is_dirty_if_code_differs_and_not_for_rows(monkeypatch, tmp_path):
    """Otherwise the rows of a grid would mark its own later runs."""

    def git(*words):
        as_someone = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *as_someone, *words], cwd=tmp_path, check=True)

    code = tmp_path / "byol_bnfree" / "training" / "environment.py"
    code.parent.mkdir(parents=True)
    rows = tmp_path / "results.jsonl"
    for file in (code, rows):
        file.write_text("1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.setattr(training_environment, "__file__", str(code))
    clean = training_environment.commit()
    rows.write_text("2\n")
    assert len(clean) == 40 and training_environment.commit() == clean
    code.write_text("2\n")
    assert training_environment.commit() == f"{clean}-dirty"


def shown(monkeypatch, steps, total=320, terminal=False, **options):
    """What `progress` prints when the clock advances a second per step."""
    now = {"time": 0.0}
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now["time"])
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=100)
    fields = {"epoch": 1.2, "loss": 0.512, "probe": 0.234}
    fields |= {"collapse": "healthy", "images_per_s": 310.4, "seconds_left": 280.1}
    with progress(total, console=console, **options) as bar:
        for step in steps:
            now["time"] = float(step)
            if step % 20 == 0:
                bar.measured(step, {"knn/top1": 0.716})
            bar.update(step, fields)
            if step == 7:
                bar.say("the [loss] is high")
    return output.getvalue()


def test_plain_line_says_everything(monkeypatch):
    lines = shown(monkeypatch, range(1, 41), seconds=39.0).splitlines()
    assert lines[-1] == (
        "step 40/320  epoch 1.2  loss 0.512  kNN 71.6 %  probe 23.4 % (views)  healthy"
        "  310 images/s  0:04:40 left"
    )


def test_a_plain_line_shows_knn_only_where_it_is_new(monkeypatch):
    """A line that was held back does not lose it. An older one has its step."""
    lines = shown(monkeypatch, range(1, 62), seconds=10.0).splitlines()
    with_knn = [line.split()[1] for line in lines if "kNN" in line]
    assert with_knn == ["21/320", "41/320", "61/320"]
    assert any("kNN 71.6 % (step 20)  probe" in line for line in lines)


def test_the_bar_keeps_the_newest_knn(monkeypatch):
    text = shown(monkeypatch, range(1, 30), terminal=True)
    assert "kNN 71.6 % (step 20)" in text.rpartition("step 29/320")[2]


def test_plain_lines_are_the_first_the_last_and_one_per_interval(monkeypatch):
    text = shown(monkeypatch, range(1, 26), total=25, seconds=10.0)
    assert [line.split()[1] for line in text.splitlines() if "step" in line] == (
        ["1/25", "11/25", "21/25", "25/25"]
    )


def test_interrupted_run_still_shows_its_last_step(monkeypatch):
    text = shown(monkeypatch, range(1, 5), seconds=10.0)
    assert [line.split()[1] for line in text.splitlines()] == ["1/320", "4/320"]


def test_last_line_appears_before_what_is_said_after_it(monkeypatch):
    lines = shown(monkeypatch, range(1, 8), total=7).splitlines()
    assert "step 7/7" in lines[-2] and "high" in lines[-1]


def test_messages_are_printed_as_they_are(monkeypatch):
    assert "the [loss] is high\n" in shown(monkeypatch, range(1, 9))


def test_terminal_gets_a_bar_and_the_same_line(monkeypatch):
    text = shown(monkeypatch, range(1, 41), terminal=True)
    assert "━" in text and "the [loss] is high" in text
    assert "step 40/320  epoch 1.2  loss 0.512  kNN 71.6 %  probe 23.4 % (vi" in text


@pytest.mark.parametrize("terminal", [False, True])
def test_long_work_moves_on_a_terminal_and_ends_with_its_time(terminal):
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=100)
    with progress(10, console=console) as bar, bar.working("compiling the first step"):
        time.sleep(0.7)
    text = output.getvalue()
    assert "compiling the first step: 1 s" in text
    turns = {mark for mark in "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if mark in text}
    assert (len(turns) > 1) == terminal


def test_other_processes_show_nothing(capsys):
    with progress(10, primary=False) as bar:
        bar.update(10, {"loss": 1.0})
        bar.say("hello")
    assert capsys.readouterr().out == ""
