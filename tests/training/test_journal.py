"""The journal reads the metrics of logged steps, when the device need not wait."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.array import ArrayImpl
from PIL import Image

import runs
from byol_bnfree import parse_args, train
from byol_bnfree.training import journal
from byol_bnfree.training.journal import AHEAD, Journal
from byol_bnfree.training.logs import MetricsLog
from byol_bnfree.training.progress import Progress
from byol_bnfree.training.recorder import MOST_ROWS, Recorder
from byol_bnfree.whole_run import steps


@pytest.mark.parametrize(
    "dispatched", [pytest.param(True, marks=pytest.mark.slow), False]
)
def test_rows_follow_their_step_at_once_or_two_steps_later(
    dispatched, monkeypatch, tmp_path
):
    batches, written = [], {}
    next_batch, write = Journal.next_batch, MetricsLog.write

    def counted(self, stream):
        batches.append(None)
        return next_batch(self, stream)

    def recorded(self, step, metrics):
        written[step] = len(batches)
        write(self, step, metrics)

    monkeypatch.setattr(Journal, "next_batch", counted)
    monkeypatch.setattr(MetricsLog, "write", recorded)
    before = jax.config.read("jax_cpu_enable_async_dispatch")
    jax.config.update("jax_cpu_enable_async_dispatch", dispatched)
    try:
        arguments = [*runs.ARGUMENTS, f"--workdir={tmp_path}", "--run.log-every=1"]
        train(parse_args(arguments))
    finally:
        jax.config.update("jax_cpu_enable_async_dispatch", before)
    late = AHEAD if dispatched else 0
    assert AHEAD >= 2
    assert written == {step: min(step + late, 4) for step in range(1, 5)}


@pytest.fixture
def reads(monkeypatch):
    """Shapes of the arrays on a device that the host reads, however it does."""
    shapes = []
    value = ArrayImpl._value.fget

    def counted(array):
        if array._npy_value is None:
            shapes.append(array.shape)
        return value(array)

    monkeypatch.setattr(ArrayImpl, "_value", property(counted))
    return shapes


@pytest.mark.parametrize("log_every", [5, pytest.param(1000, marks=pytest.mark.slow)])
def test_nothing_moves_but_one_array_for_each_row(
    log_every, reads, monkeypatch, tmp_path
):
    """Guarded: to the device; on CPUs JAX's guard lets reads pass, so they are counted.

    A run of 12 steps with rows 1, 5, 10 and 12, or 1 and 12.
    """
    loop, take, read_at = steps.run_loop, Journal.take, {}

    def guarded(*args, **kwargs):
        with jax.transfer_guard("disallow"):
            return loop(*args, **kwargs)

    def counted(self, step, metrics, outputs):
        before = len(reads)
        take(self, step, metrics, outputs)
        read_at[step] = reads[before:]

    # Another test of this process may have set JAX to run in the calling thread.
    monkeypatch.setattr(journal, "runs_in_calling_thread", lambda: False)
    monkeypatch.setattr(steps, "run_loop", guarded)
    monkeypatch.setattr(Journal, "take", counted)
    settings = ["--steps=12", f"--run.log-every={log_every}"]
    arguments = [*runs.ARGUMENTS, *settings, f"--workdir={tmp_path}"]
    train(parse_args(arguments))
    rows = {step: len(shapes) for step, shapes in read_at.items() if shapes}
    logged = [1, *range(log_every, 12, log_every)]
    assert rows == {step + AHEAD: 1 for step in logged}
    assert len(MetricsLog(tmp_path).rows()) == len(logged) + 1


@pytest.mark.slow
def test_rows_are_the_means_of_all_their_steps(tmp_path):
    """Whatever is read together: as of a run that logs every step."""
    found = {}
    for every in (1, 4):
        settings = ["--steps=9", f"--run.log-every={every}"]
        folder = tmp_path / str(every)
        train(parse_args([*runs.ARGUMENTS, *settings, f"--workdir={folder}"]))
        found[every] = {row["step"]: row for row in MetricsLog(folder).rows()}
    assert list(found[4]) == [1, 4, 8, 9]
    for name in ("train/loss", "optim/grad_norm"):
        of_steps = [found[1][step][name] for step in range(5, 9)]
        assert found[4][8][name] == pytest.approx(np.mean(of_steps))


def test_a_recorder_hands_out_full_arrays_and_then_the_rest():
    recorder, handed_out = Recorder(10**6), []
    for step in range(1, MOST_ROWS + 3):
        rows = recorder.take(step, {"a": jnp.float32(step)}, close=False)
        handed_out += [rows] * (rows is not None)
    handed_out.append(recorder.rest())
    assert [rows.count for rows in handed_out] == [MOST_ROWS, 2]
    read = {step: row for rows in handed_out for step, row in rows.read().items()}
    assert read == {step: {"a": float(step)} for step in range(1, MOST_ROWS + 3)}
    assert recorder.rest() is None


@pytest.mark.parametrize(
    "gib, remedy",
    [
        (4, "other programs may use the cores, so give the run more of them."),
        (0, "give the run more cores and --data.workers, or store the pictures "),
    ],
)
def test_a_run_that_waits_for_pictures_says_so_once(
    gib, remedy, monkeypatch, tmp_path, capsys
):
    next_batch = Journal.next_batch

    def slowly(self, stream):
        self.pace.waited += 10.0  # seconds, of a row that took less
        return next_batch(self, stream)

    monkeypatch.setattr(Journal, "next_batch", slowly)
    for number in range(16):
        place = tmp_path / "pictures" / "a" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number, 0, 0)).save(place)
    data = [f"--dataset=folder:{tmp_path}/pictures", f"--data.in-memory-gib={gib}"]
    arguments = [*runs.ARGUMENTS, *data, f"--workdir={tmp_path}/run"]
    assert train(parse_args([*arguments, "--run.log-every=1"]))["data_wait"] > 1
    assert capsys.readouterr().out.count(f"waiting for pictures; {remedy}") == 1


@pytest.mark.slow
def test_the_time_left_agrees_with_the_rate(monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr(Progress, "update", lambda self, *seen: shown.append(seen))
    quiet = ["--evaluation.knn-every-epochs=0", "--evaluation.skip"]  # no pauses
    settings = ["--steps=6", "--run.log-every=2", f"--workdir={tmp_path}"]
    config = parse_args([*runs.ARGUMENTS, *quiet, *settings])
    train(config)
    for step, fields in shown[1:]:
        images = (6 - step) * config.batch_size
        left = images / fields["images_per_s"]
        assert fields["seconds_left"] == pytest.approx(left)
    assert shown[0][1]["seconds_left"] is None  # the first step only compiles
