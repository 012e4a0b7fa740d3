"""`--extend`: a finished run becomes longer, with a schedule of its own."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import runs
from byol_bnfree import InputError, parse_args, train
from byol_bnfree.config import Extension, TrainConfig
from byol_bnfree.training.changes import compare_config
from byol_bnfree.training.extension import (
    extension_words,
    predictor_rate_of,
    resolve_extension,
    schedules_of,
)
from byol_bnfree.training.manifest import MANIFEST
from byol_bnfree.training.schedules import learning_rate_schedule, tau_schedule

IMAGES = 160  # in batches of 8: the run of 4 steps is 0.2 epochs long
EXTEND = ["--extend=0.4", "--extend-base-lr=0.2"]


@pytest.fixture
def workdir(tmp_path):
    return runs.copy_of(runs.trained(), tmp_path)


@pytest.fixture
def saved(tmp_path):
    """A folder with the settings and the name of a checkpoint of a run."""
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    (tmp_path / "checkpoints" / "4" / MANIFEST).write_text("{}")
    settings = json.dumps(dataclasses.asdict(TrainConfig()))
    (tmp_path / "config.json").write_text(settings)
    return tmp_path


def read(workdir, name):
    return json.loads((workdir / name).read_text())


def extension(workdir, *flags):
    """The configuration of a command line with no flag of the run but its folder."""
    return parse_args([f"--workdir={workdir}", *(flags or EXTEND)])


def pretend(workdir, steps, *flags):
    """As if the extension had been trained."""
    config = resolve_extension(extension(workdir, *flags), IMAGES)
    (workdir / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
    (workdir / "summary.json").write_text(json.dumps({"steps": steps}))
    return config


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--extend=0.1"], "makes a run of 2 steps in all, and .* has 4 already"),
        (["--extend=0.2"], "give more epochs"),
        (["--extend=1", "--seed=1"], "seed: 0 -> 1"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_changes(flags, sentence):
    workdir = runs.trained()
    before = {p: p.stat().st_mtime_ns for p in workdir.glob("*.json*")}
    with pytest.raises(InputError, match=sentence):
        train(extension(workdir, *flags))
    assert before == {p: p.stat().st_mtime_ns for p in workdir.glob("*.json*")}


def test_an_extension_does_not_wait_for_the_processes_of_the_run(tmp_path):
    places = {"coordinator": "a:1", "num_processes": 2, "process_id": 0}
    began = TrainConfig(**places)
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(began)))
    config = extension(tmp_path)
    assert all(getattr(config, name) is None for name in places)


def test_there_must_be_a_finished_run(workdir, tmp_path):
    with pytest.raises(InputError, match="name its --workdir"):
        resolve_extension(parse_args(["--extend=1"]), IMAGES)
    with pytest.raises(InputError, match="holds no run with a checkpoint"):
        resolve_extension(extension(tmp_path / "new"), IMAGES)
    (workdir / "summary.json").unlink()
    with pytest.raises(InputError, match="is not finished"):
        resolve_extension(extension(workdir), IMAGES)


@pytest.mark.parametrize("summary", ["{}", '{"steps": null}', '{"steps": "4"}'])
def test_a_summary_without_its_steps_is_refused_in_a_sentence(saved, summary):
    (saved / "summary.json").write_text(summary)
    with pytest.raises(InputError, match="summary.json has no number of steps; resto"):
        resolve_extension(extension(saved), IMAGES)


@pytest.mark.parametrize("part", [{}, {"start": "4", "end": 8, "base_lr": 0.2}, 3])
def test_a_damaged_list_of_extensions_is_refused_in_a_sentence(saved, part):
    config = extension(saved)
    damaged = read(saved, "config.json") | {"extensions": [part]}
    (saved / "config.json").write_text(json.dumps(damaged))
    with pytest.raises(InputError, match="start|Extension"):
        resolve_extension(config, IMAGES)


def test_an_extension_resumes_as_itself_and_is_extended_when_it_is_finished(workdir):
    first = pretend(workdir, 8)
    assert first.extensions == (Extension(4, 8, 0.2),) and first.steps == 4
    for flags in (EXTEND, ["--extend=0.4"]):
        assert resolve_extension(extension(workdir, *flags), IMAGES) == first
    saved = read(workdir, "config.json")
    for flags, differs in (
        (["--extend=0.4", "--extend-base-lr=0.3"], "extend_base_lr: 0.2 -> 0.3"),
        (["--base-lr=0.4"], "extend: 0.4 -> None"),
    ):
        now = resolve_extension(extension(workdir, *flags), IMAGES)
        found = compare_config(saved, dataclasses.asdict(now), {"extensions"})
        assert differs in found
    second = resolve_extension(extension(workdir, "--extend=0.5"), IMAGES)
    assert second.extensions[0] == first.extensions[0]
    assert (second.extensions[1].start, second.extensions[1].end) == (8, 10)
    (workdir / "summary.json").write_text(json.dumps({"steps": 4}))  # of the run before
    with pytest.raises(InputError, match="is not finished"):
        resolve_extension(extension(workdir, "--extend=0.5"), IMAGES)


def test_its_rate_is_a_cosine_from_the_stated_one_to_zero():
    config = parse_args([*runs.ARGUMENTS])
    longer = dataclasses.replace(config, extensions=(Extension(4, 8, 0.2),))
    plain, rate = (schedules_of(c, IMAGES).learning_rate for c in (config, longer))
    assert [rate(k) for k in range(4)] == [plain(k) for k in range(4)]
    expected = [0.2 * 8 / 256 * (1 + np.cos(np.pi * k / 4)) / 2 for k in range(5)]
    np.testing.assert_allclose([rate(4 + k) for k in range(5)], expected, atol=1e-8)


def test_a_constant_rate_of_the_predictor_begins_anew():
    """SimSiam's: otherwise it would keep the peak of the first part."""
    config = parse_args([*runs.ARGUMENTS, "--objective=simsiam"])
    longer = dataclasses.replace(config, extensions=(Extension(4, 8, 0.2),))
    rate = predictor_rate_of(longer)
    first = config.base_lr * config.batch_size / 256
    expected = [first] * 4 + [0.2 * config.batch_size / 256] * 3
    np.testing.assert_allclose([rate(k) for k in range(7)], expected, rtol=1e-6)
    assert "predictor constant at 0.00625;" in extension_words(longer, IMAGES)
    assert predictor_rate_of(parse_args([*runs.ARGUMENTS])) is None


def test_without_a_rate_it_begins_where_a_longer_run_would_be(workdir):
    config = resolve_extension(extension(workdir, "--extend=0.4"), IMAGES)
    longer = learning_rate_schedule(config.base_lr, 2, 8)  # 0.1 epochs of warm-up
    np.testing.assert_allclose(config.extend_base_lr, longer(4), rtol=1e-6)


@pytest.mark.parametrize("shape", ["cosine", "constant"])
def test_tau_of_an_extension_is_that_of_a_run_of_the_whole_length(shape):
    config = parse_args([*runs.ARGUMENTS, f"--optim.tau-schedule={shape}"])
    parts = (Extension(4, 8, 0.1), Extension(8, 10, 0.1))
    tau = schedules_of(dataclasses.replace(config, extensions=parts), IMAGES).tau
    for steps, total in ((range(4), 4), (range(4, 8), 8), (range(8, 10), 10)):
        plain = tau_schedule(config.optim.tau_base, total, shape)
        assert [tau(k) for k in steps] == [plain(k) for k in steps]


class Enough(Exception):
    pass


@pytest.mark.slow
def test_a_run_goes_on_keeps_what_was_and_resumes_bit_for_bit(
    workdir, tmp_path, capsys
):
    (tmp_path / "other").mkdir()
    other = runs.copy_of(workdir, tmp_path / "other")
    before = [read(workdir, f"{name}.json") for name in ("config", "summary")]

    def stop(row):
        if row["step"] == 6:
            raise Enough

    flags = [*EXTEND, "--run.log-every=1"]  # one program for both
    with pytest.raises(Enough):
        train(extension(other, *flags), stop)
    assert "steps 4 to 8: learning rate 0.2 x 8 / 256" in capsys.readouterr().out
    with pytest.raises(InputError, match="is not finished"):
        train(extension(other, "--extend=0.9"))
    shutil.rmtree(other / "checkpoints" / "4")
    one, two = (train(extension(folder, *flags)) for folder in (other, workdir))
    assert one["steps"] == two["steps"] == 8
    leaves = [jax.tree.leaves(run.encoder.variables) for run in (one, two)]
    for x, y in zip(*leaves, strict=True):
        np.testing.assert_array_equal(x, y)
    kept = [read(workdir, f"{name}.4.json") for name in ("config", "summary")]
    assert kept == before
    lines = (other / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == [1, 4, 5, 6, 7, 8]
    train(extension(workdir, *flags))
    assert "nothing is left to do" in capsys.readouterr().out
