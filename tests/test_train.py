"""`python -m byol_bnfree.train` as users run it: in a process of its own."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.encoder import load_encoder
from byol_bnfree.training.divergence import DIVERGED

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "tfds"
# The rate is low so that runs can be compared: from a relative 1e-7 at the start, bn's
# parameters differ by 4e-7 after the 6 steps, and by 1e-3 at the default rate.
TINY = (
    "--batch-size=8 --steps=6 --model.name=resnet8 --model.width=0.25 "
    "--model.stem=small --model.stem-stride=2 --model.projector.hidden=8 "
    "--model.projector.out=8 --model.predictor.hidden=8 --model.predictor.out=8 "
    "--base-lr=0.4 --optim.warmup-epochs=0.1 "
    "--data.image-size=16 --data.shapes-train=32 --data.shapes-test=16 "
    "--run.log-every=2 --evaluation.batch-size=16"
).split()


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "byol_bnfree.train", *map(str, arguments)]


def train(*arguments, cwd=ROOT, devices=1, **options) -> subprocess.CompletedProcess:
    """Run to the end; `check=False` for runs that must fail."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        **{"check": True, **options},
    )


def rows(workdir: Path) -> list[dict]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def final_weights(workdir: Path) -> list[np.ndarray]:
    import jax

    encoder = load_encoder(workdir)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(encoder.variables)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 6 steps with a checkpoint at every second one."""
    workdir = tmp_path_factory.mktemp("run") / "w"
    done = train(*TINY, f"--workdir={workdir}", "--run.checkpoint-steps=2")
    return workdir, done


def test_a_run_leaves_everything_it_promises(finished):
    workdir, done = finished
    names = ["config", "environment", "dataset", "summary"]
    files = [f"{name}.json" for name in names]
    for name in [*files, "metrics.jsonl", "views.png", "curves.png", "checkpoints"]:
        assert (workdir / name).exists(), name
    assert list((workdir / "tensorboard").iterdir())
    assert done.stdout.splitlines()[0].split() == ["run", str(workdir)]
    told = {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
    assert {"data", "network", "objective", "optimizer", "devices"} <= told
    end = done.stdout.splitlines()[-2:]
    assert str(workdir) in end[0] and "summary.json" in end[1]
    with Image.open(workdir / "views.png") as picture:
        assert min(picture.size) > 100


def test_summary_holds_what_scripts_rely_on(finished):
    summary = json.loads((finished[0] / "summary.json").read_text())
    assert (summary["norm"], summary["seed"], summary["steps"]) == ("gn_ws", 0, 6)
    for figure in ("knn", "linear"):
        assert all(0 <= summary[figure][k] <= 1 for k in ("untrained", "trained"))
    assert summary["collapse"]["verdict"] in ("healthy", "drifting", "collapsed")
    assert summary["images_per_s"] > 0 and summary["seconds"] > 0
    assert 0.1 < summary["peak_gib"]["host"] < 20


def test_rows_have_every_metric_and_no_duplicate_step(finished):
    found = rows(finished[0])
    assert [row["step"] for row in found] == [1, 2, 4, 6]
    expected = (
        "train/loss optim/lr optim/grad_norm optim/update_norm ema/tau probe/top1 "
        "probe/top5 collapse/feature_std collapse/positive_cosine "
        "collapse/negative_cosine collapse/effective_rank perf/images_per_s "
        "perf/data_wait epoch"
    )
    assert set(expected.split()) <= set(found[-1])
    for row in found:  # of logged steps: the others have no measures of collapse
        assert row["collapse/effective_rank"] >= 1
        assert row["collapse/feature_std"] > 0
        assert -1 <= row["collapse/negative_cosine"] <= 1


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_step_is_compiled_once(devices, monkeypatch, tmp_path):
    """Its first call finds what was compiled beside the initialization."""
    monkeypatch.setenv("JAX_LOG_COMPILES", "1")
    run = train(*TINY, f"--workdir={tmp_path}/run", devices=devices)
    order = re.findall(r"Finished XLA compilation of jit\((\w+)\)", run.stderr)
    assert order.count("train_step") == order.count("collapse_metrics") == 1
    # Beside the preparation, and not between the first step and its row.
    assert order.index("collapse_metrics") < order.index("train_step")


def test_the_same_command_again_does_nothing_when_finished(finished):
    workdir, _ = finished
    before = (workdir / "metrics.jsonl").read_bytes()
    again = train(*TINY, f"--workdir={workdir}", "--run.checkpoint-steps=2")
    assert "nothing is left to do" in again.stdout
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_other_settings_are_refused_with_the_fields_that_differ(finished):
    done = train(
        *TINY, f"--workdir={finished[0]}", "--base-lr=0.7", "--seed=3", check=False
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "base_lr: 0.4 -> 0.7" in done.stderr and "seed: 0 -> 3" in done.stderr


def test_trained_encoder_is_the_one_in_the_checkpoint(finished):
    encoder = load_encoder(finished[0])
    images = np.zeros((2, 16, 16, 3), np.uint8)
    assert encoder.step == 6 and encoder(images).shape == (2, 16)
    target = load_encoder(finished[0], "target")
    assert not np.allclose(encoder(images + 99), target(images + 99))


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_the_same_command_resumes(number, tmp_path):
    arguments = [*TINY, "--steps=4000", f"--workdir={tmp_path}", "--evaluation.skip"]
    process = subprocess.Popen(
        command(*arguments),
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    metrics = tmp_path / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text()):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "the same command resumes" in errors and "Traceback" not in errors
    assert list(tmp_path.glob("checkpoints/*/manifest.json"))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path):
    done = train(
        *TINY,
        *("--optim.name=sgd", "--base-lr=1e30", "--norm=none", "--steps=50"),
        f"--workdir={tmp_path}",
        check=False,
    )
    assert done.returncode == DIVERGED and "Traceback" not in done.stderr
    assert "at step" in done.stderr and "--base-lr" in done.stderr


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--norm=gnws"], "invalid choice 'gnws'"),
        (["--model.width=0.3"], "width 0.3"),
        (["--model.groups=3", "--model.width=1"], "64 channels cannot be cut into 3"),
        (["--batch-size=9"], "--batch-size 9"),
        (["--dataset=nosuchset", "--data-dir=/tmp"], "nosuchset"),
        (["--dataset=folder:/nonexistent"], "/nonexistent"),
        (["--config=README.md"], "README.md"),
        (["--config=missing.py"], "missing.py"),
        (["--config=byol_bnfree/losses.py"], "no function get_config"),
        (["--workdir=/proc/w"], "/proc/w"),
        (["--norm=bn", "--micro-batches=2"], "--micro-batches 2"),
        (["--steps=0"], "steps is 0"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(arguments, sentence, tmp_path):
    workdir = [] if any("workdir" in a for a in arguments) else ["--workdir=w"]
    done = train(*TINY, *arguments, *workdir, cwd=ROOT, devices=2, check=False)
    assert done.returncode == 2, done.stderr
    assert sentence in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_checkpoint_that_does_not_fit_on_disk_stops_the_run_with_a_sentence(tmp_path):
    """Files of this process may have 2 MiB; the checkpoint's are larger."""
    limit = (2**21, 2**21)
    (tmp_path / "run" / "curves.png").mkdir(parents=True)  # nor can this be written
    wide = ["--model.projector.hidden=60000", "--model.predictor.hidden=60000"]
    done = subprocess.run(
        command(*TINY, *wide, f"--workdir={tmp_path}/run", "--evaluation.skip"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "could not be saved" in done.stderr
    assert "no checkpoint was saved before it" in done.stderr
    assert "curves.png was not written" in done.stdout + done.stderr
    assert (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_a_sentence_wherever_it_is_met(capsys):
    def main():
        with open("/dev/full", "w") as file:
            file.write("x" * 10_000)

    with pytest.raises(SystemExit) as stopped:
        exit_on_error(main)
    assert stopped.value.code == 1
    assert "no space left" in capsys.readouterr().err


def test_a_checkpoint_of_another_architecture_is_refused(finished, tmp_path):
    import shutil

    shutil.copytree(finished[0] / "checkpoints", tmp_path / "checkpoints")
    config = json.loads((finished[0] / "config.json").read_text())
    config["model"]["projector"]["hidden"] = 16
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = train(
        *TINY, "--model.projector.hidden=16", f"--workdir={tmp_path}", check=False
    )
    assert done.returncode == 2 and "another architecture" in done.stderr


def odd_folder(root: Path, bad: bool) -> Path:
    """Two classes of pictures of every kind, and perhaps a truncated one."""
    draws = np.random.default_rng(0)
    kinds = [
        ("RGB", "jpg", (20, 30)),
        ("L", "png", (17, 17)),
        ("RGBA", "png", (40, 16)),
        ("P", "gif", (16, 16)),
        ("CMYK", "jpg", (33, 21)),
        ("RGB", "webp", (64, 48)),
        ("RGB", "bmp", (16, 18)),
        ("I;16", "png", (20, 20)),
    ]
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for index, (mode, ending, size) in enumerate(kinds * 2):
            pixels = draws.integers(0, 255, (*size, 3), dtype=np.uint8)
            picture = Image.fromarray(pixels)
            if mode == "I;16":
                picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 200)
            elif mode != "RGB":
                picture = picture.convert(mode)
            picture.save(root / name / f"{index}.{ending}")
    if bad:
        data = (root / "cat" / "0.jpg").read_bytes()
        (root / "cat" / "truncated.jpg").write_bytes(data[: len(data) // 3])
    return root


def test_a_folder_of_odd_images_trains(tmp_path):
    folder = odd_folder(tmp_path / "pictures", bad=False)
    train(*TINY, f"--dataset=folder:{folder}", f"--workdir={tmp_path / 'w'}")
    summary = json.loads((tmp_path / "w" / "summary.json").read_text())
    assert summary["knn"]["trained"] is not None


def test_a_truncated_picture_is_named_and_can_be_skipped(tmp_path):
    folder = odd_folder(tmp_path / "pictures", bad=True)
    arguments = [*TINY, "--steps=12", f"--dataset=folder:{folder}"]
    done = train(*arguments, f"--workdir={tmp_path / 'a'}", check=False)
    assert done.returncode == 2 and "truncated.jpg" in done.stderr
    train(*arguments, "--on-bad-image=skip", f"--workdir={tmp_path / 'b'}")


@pytest.mark.skipif(not SHARED.exists(), reason="no prepared CIFAR-10 here")
@pytest.mark.parametrize(
    "name, channels",
    [pytest.param("cifar10", 3, marks=pytest.mark.slow), ("fashion_mnist", 1)],
)
def test_prepared_tfds_sets_train(name, channels, tmp_path):
    train(
        *TINY,
        f"--dataset={name}",
        f"--data-dir={SHARED}",
        "--data.train-split=train[:200]",
        "--data.test-split=test[:50]",
        f"--workdir={tmp_path}",
    )
    described = json.loads((tmp_path / "dataset.json").read_text())
    assert described["image_shape"] == [16, 16, channels]


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen",
    [
        # Muon would enlarge the rounding of its statistics, as of the last one.
        ["--optim.name=sgd", "--base-lr=0.05", "--norm=bn"],
        # Its negatives come from the images of both processes.
        ["--norm=gn_ws", "--objective=infonce", "--infonce.beta=1"],
        ["--norm=gn_ws", "--objective=moco_v2"],  # so do the images of its queue
        # So do its correlations. Muon would enlarge the rounding of their gradient,
        # which is zero in some directions.
        [
            *("--norm=gn_ws", "--optim.name=sgd", "--base-lr=0.05"),
            "--objective=barlow_twins",
        ],
    ],
    ids=lambda chosen: chosen[-1].lstrip("-"),
)
def test_two_processes_with_a_sharded_state_equal_one_device(tmp_path, chosen):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [*TINY, *chosen, "--evaluation.max-train=16"]
    together, alone = tmp_path / "together", tmp_path / "alone"
    processes = [
        subprocess.Popen(
            command(
                *arguments,
                f"--workdir={together}",
                "--run.model-devices=2",
                "--shard-state",
                f"--coordinator=127.0.0.1:{port}",
                "--num-processes=2",
                f"--process-id={index}",
            ),
            env=os.environ | {"JAX_NUM_CPU_DEVICES": "2"},
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=400)
        assert process.returncode == 0, errors
    train(*arguments, f"--workdir={alone}", devices=1)
    figures = [
        {
            f"{row['step']} {name}": value
            for row in rows(workdir)
            for name, value in row.items()
            if "perf/" not in name and value is not None
        }
        for workdir in (together, alone)
    ]
    assert figures[0] == pytest.approx(figures[1], rel=1e-3, abs=1e-5)
    for a, b in zip(final_weights(together), final_weights(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_run_whose_output_nobody_reads_any_more_saves_and_ends(tmp_path):
    workdir = tmp_path / "w"
    with subprocess.Popen(
        command(*TINY, f"--workdir={workdir}"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not process.stdout.readline().startswith("memory"):
            pass
        process.stdout.close()  # as `| head` does; the line of step 1 is yet to come
        assert process.wait(timeout=400) == 1
        said = process.stderr.read()
    (saved,) = (workdir / "checkpoints").iterdir()
    assert said == (
        f"error: standard output was closed by its reader. Step {saved.name} is saved; "
        f"the same command resumes.\n"
    )


def test_output_that_nobody_reads_before_the_first_step_ends_quietly(tmp_path):
    with subprocess.Popen(
        command(*TINY, f"--workdir={tmp_path / 'w'}"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=400) == 128 + signal.SIGPIPE
        assert "Traceback" not in process.stderr.read()


def test_other_output_that_nobody_reads_is_no_error():
    code = (
        "from byol_bnfree.command_line import exit_on_error\n"
        "exit_on_error(lambda: print('a line\\n' * 100_000))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=100) == 128 + signal.SIGPIPE
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    "closed, main, status",
    [
        *[(">&-", "print('a line')", 0), ("2>&-", "print('a line')", 0)],
        *[(">&- 2>&-", "print('a line')", 0), ("2>&-", "fail()", 2)],
    ],
)
def test_output_that_was_closed_before_goes_nowhere(closed, main, status):
    code = (
        "from byol_bnfree.command_line import exit_on_error, InputError\n"
        "def fail(): raise InputError('wrong')\n"
        f"exit_on_error(lambda: {main})"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    said = "" if ">&-" in closed.split() or status else "a line\n"
    assert (done.returncode, done.stdout, done.stderr) == (status, said, "")
