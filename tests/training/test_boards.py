"""TensorBoard and Weights & Biases hold rows, pictures, settings and final figures."""

import dataclasses
import os
import sys
import types

import numpy as np
import pytest
from PIL import Image

import runs
from byol_bnfree import parse_args, train
from byol_bnfree.config import EvalConfig, RunConfig, TrainConfig
from byol_bnfree.encoder import load_encoder
from byol_bnfree.errors import InputError
from byol_bnfree.training.best import Best
from byol_bnfree.training.boards import TensorBoard, Wandb, figures_of, settings_of

FIGURES = {"knn_trained": 0.75, "linear_trained": 0.8}


def events_of(folder):
    from tensorboardX.proto.event_pb2 import Event

    for path in folder.iterdir():
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            yield Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "views.png"
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(path)
    return path


def test_tensorboard_has_pictures_final_figures_and_settings(tmp_path, picture):
    board = TensorBoard(tmp_path / "tensorboard")
    board.row(1, {"knn/top1": 0.5})
    board.finish(9, {"norm": "gn_ws", "base_lr": 0.4}, FIGURES, {"views": picture})
    board.close()
    values = {}
    for event in events_of(tmp_path / "tensorboard"):
        values |= {v.tag: v for v in event.summary.value}
    assert values["knn/top1"].simple_value == 0.5
    assert values["final/knn_trained"].simple_value == 0.75
    image = values["views"].image
    assert (image.height, image.width) == (5, 7)
    assert image.encoded_image_string == picture.read_bytes()
    plugins = [v.metadata.plugin_data.plugin_name for v in values.values()]
    assert plugins.count("hparams") == 3  # experiment, start with settings, end
    start = next(v for tag, v in values.items() if "session_start" in tag)
    assert b"gn_ws" in start.metadata.plugin_data.content


def test_settings_are_text_that_can_be_encoded():
    found = settings_of({"data_dir": os.fsdecode(b"/data\xff"), "a": {"b": None}})
    assert found == {"data_dir": "/data\\xff"}


def test_settings_are_flat_numbers_and_texts():
    settings = settings_of(dataclasses.asdict(TrainConfig()))
    assert settings["model.projector.hidden"] == 512
    assert settings["augment.view1.crop_area"] == "(0.08, 1.0)"
    assert "workdir" not in settings  # None


def test_final_figures_leave_out_what_was_not_measured():
    nothing = {"trained": None, "untrained": None}
    some = {"trained": 0.5, "untrained": 0.25}
    summary = {"knn": some, "linear": nothing, "images_per_s": 10}
    figures = {"knn_trained": 0.5, "knn_untrained": 0.25, "images_per_s": 10.0}
    assert figures_of(summary) == figures


class FakeRun:
    def __init__(self, **options):
        self.options, self.rows, self.summary, self.ended = options, [], {}, False

    def log(self, values, step):
        self.rows.append((step, values))

    def finish(self):
        self.ended = True


def test_wandb_gets_the_same_and_resumes_under_one_identity(
    tmp_path, picture, monkeypatch
):
    runs_made = []
    fake = types.ModuleType("wandb")
    fake.init = lambda **options: runs_made.append(FakeRun(**options)) or runs_made[-1]
    fake.Image = lambda path: f"image {path}"
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for _ in range(2):
        board = Wandb("project", tmp_path, {"norm": "bn"})
        board.row({"step": 3, "train/loss": 0.5, "probe/top1": None})
        board.finish(9, FIGURES, {"views": picture})
        board.close()
    first, second = runs_made
    assert first.options["id"] == second.options["id"]
    assert first.options["config"] == {"norm": "bn"}
    assert first.rows[0] == (3, {"step": 3, "train/loss": 0.5})
    assert first.rows[1] == (9, {"views": f"image {picture}"})
    assert first.summary["final/knn_trained"] == 0.75 and first.ended


def test_wandb_that_is_not_installed_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"run.wandb needs .*\.\[wandb\]"):
        Wandb("project", tmp_path, {})


MEASURED = {"train_images": 20, "test_images": 8, "k": 5, "temperature": 0.1}


def saved(workdir, step):
    folder = workdir / "checkpoints" / str(step)
    folder.mkdir(parents=True)
    (folder / "weights").write_text(str(step))


def test_the_best_checkpoint_outlives_those_that_are_deleted(tmp_path):
    best = Best(tmp_path, MEASURED, pytest.fail)
    (tmp_path / "config.json").write_text("{}")
    for step, top1 in ((1, 0.2), (2, 0.5), (3, 0.4)):
        saved(tmp_path, step)
        if best.beaten({"knn/top1": top1}):
            best.take(step)
    for step in (1, 2, 3):
        (tmp_path / "checkpoints" / str(step) / "weights").unlink()
    folder = tmp_path / "best" / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["2"]
    assert (folder / "2" / "weights").read_text() == "2"
    assert (tmp_path / "best" / "config.json").exists()
    resumed = Best(tmp_path, MEASURED, pytest.fail)
    assert not resumed.beaten({"knn/top1": 0.5})  # a resumed run knows it
    assert resumed.beaten({"knn/top1": 0.6})


@pytest.mark.parametrize("name", MEASURED)
def test_figures_that_are_measured_in_another_way_are_not_compared(name, tmp_path):
    best, said = Best(tmp_path, MEASURED, pytest.fail), []
    saved(tmp_path, 1)
    assert best.beaten({"knn/top1": 0.9})
    best.take(1)
    assert Best(tmp_path, MEASURED | {name: 7}, said.append).beaten({"knn/top1": 0.1})
    assert len(said) == 1 and f"{name}: {MEASURED[name]} -> 7" in said[0]


@pytest.mark.parametrize("fields", [{"skip": True}, {"knn_every_epochs": 0.0}])
def test_the_best_without_figures_to_compare_is_refused(fields):
    with pytest.raises(InputError, match="keep-best compares kNN accuracies"):
        TrainConfig(run=RunConfig(keep_best=True), evaluation=EvalConfig(**fields))


@pytest.mark.parametrize(
    "content", ["{}", '{"knn/top1": null}', '{"knn/top1": 0.5, "measured": [1]}']
)
def test_a_best_figure_of_another_form_is_one_sentence(content, tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "best.json").write_text(content)
    with pytest.raises(InputError, match="best.json is not that of a run; restore or"):
        Best(tmp_path, {}, pytest.fail)


def test_the_best_needs_accuracies_during_the_run_and_not_at_its_end():
    evaluation = EvalConfig(skip=True, knn_every_epochs=1.0)
    TrainConfig(run=RunConfig(keep_best=True), evaluation=evaluation)


def test_the_best_on_data_without_classes_is_refused_before_any_work(tmp_path):
    for index in range(8):
        pixels = np.full((8, 8, 3), 20 * index, np.uint8)
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{index}.png")
    flags = [a for a in runs.ARGUMENTS if not a.startswith(("--evalu", "--data."))]
    flags += [
        f"--dataset=folder:{tmp_path}/pictures",
        "--data.unlabelled",
        "--run.keep-best",
    ]
    run = tmp_path / "run"
    with pytest.raises(InputError, match="keep-best .* no labels of two classes"):
        train(parse_args([*flags, f"--workdir={run}"]))
    assert not run.exists()


@pytest.mark.slow
def test_a_run_keeps_its_best_encoder(tmp_path):
    arguments = [a for a in runs.ARGUMENTS if a != "--evaluation.skip"]
    arguments += ["--run.keep-best", "--evaluation.knn-every-epochs=0.05"]
    arguments += ["--evaluation.linear-too", f"--workdir={tmp_path}", "--norm=gn_ws"]
    rows = []
    train(parse_args(arguments), on_row=rows.append)
    measured = {row["step"]: row["knn/top1"] for row in rows if "knn/top1" in row}
    assert all("linear/top1" in row for row in rows if "knn/top1" in row)
    encoder = load_encoder(tmp_path / "best")
    assert measured[encoder.step] == max(measured.values())
    tags = {v.tag for e in events_of(tmp_path / "tensorboard") for v in e.summary.value}
    assert {"knn/top1", "linear/top1", "final/linear_trained", "views"} <= tags
