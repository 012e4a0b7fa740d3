"""Saved classifiers give the figures that they were saved with, on any pictures."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

import runs
import tiny
from byol_bnfree import files
from byol_bnfree.data.sources import open_source
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation import predictor as predictors
from byol_bnfree.evaluation.bench import data_of
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.kept.fitted import Fitted, read_fitted, save_fitted
from byol_bnfree.evaluation.predictor import Predictor, load_predictor
from byol_bnfree.evaluation.settings import FinetuneSettings
from byol_bnfree.own_code import code_of
from byol_bnfree.predict import PredictConfig, predict

TUNED = FinetuneSettings(steps=2, batch_size=32, rates=(0.1,), weight_decays=(0.0,))


def test_a_classifier_comes_back_from_its_file(tmp_path):
    variables = {"params": {"conv1": {"kernel": np.ones((2, 2))}}}
    fitted = Fitted(np.eye(2), np.zeros(2), variables)
    save_fitted(tmp_path / "a.npz", fitted, {"classes": ["a", "b"]})
    again, about = read_fitted(tmp_path / "a.npz")
    assert about == {"classes": ["a", "b"]}
    np.testing.assert_array_equal(again.kernel, fitted.kernel)
    kernel = again.variables["params"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, np.ones((2, 2)))


def test_a_file_that_is_cut_short_or_of_another_kind_is_one_sentence(tmp_path):
    path = tmp_path / "a.npz"
    save_fitted(path, Fitted(np.eye(9), np.zeros(9)), {"classes": ["a"]})
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match="is not a classifier"):
            read_fitted(path)
    np.save(tmp_path / "b.npy", np.eye(2))
    with pytest.raises(InputError, match="is not a classifier"):
        read_fitted(tmp_path / "b.npy")


OWN = """
from flax import linen as nn


class Small(nn.Module):
    @nn.compact
    def __call__(self, images, train=False):
        return nn.relu(nn.Dense(4, name="fc")(images.mean((1, 2))))


def small(layers):
    return Small()
"""


def test_a_fine_tuned_encoder_whose_code_changed_is_not_used_in_silence(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    run = tiny.config(encoder=f"{file}:small")
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(run)))
    data = {"train": {"images": 4}, "num_classes": 2, "image_shape": [8, 8, 3]}
    (tmp_path / "dataset.json").write_text(json.dumps(data))
    dense = {"kernel": np.ones((3, 4), np.float32), "bias": np.zeros(4, np.float32)}
    path = tmp_path / "a.npz"
    about = {"step": 1, "classes": ["a", "b"], "several": False}
    save_fitted(
        path,
        Fitted(np.ones((4, 2)), np.zeros(2), {"params": {"fc": dense}}),
        about | {"code": list(code_of(run))},
    )
    images = tiny.batch()["image"]
    before = load_predictor(path, tmp_path).encoder(images)
    file.write_text(OWN.replace("nn.relu(", "nn.silu("))
    with pytest.warns(UserWarning, match="mine.py has changed since a.npz was fitted"):
        after = load_predictor(path, tmp_path).encoder(images)
    assert not np.allclose(before, after)
    file.write_text(OWN.replace("Dense(4", "Dense(5"))
    with (
        pytest.warns(UserWarning, match="has changed"),
        pytest.raises(InputError, match="another encoder than the run.*fc/"),
    ):
        load_predictor(path, tmp_path)


def no_space(file: int):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("deep", [False, True])
def test_every_picture_of_another_set_is_predicted(tmp_path, monkeypatch, deep):
    """A folder without classes holds a tenth out, which would be all that is seen."""
    folder = tmp_path / "set"
    for k in range(12):
        (folder / str(k % 3 if deep else "")).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (k, 0, 0)).save(
            folder / str(k % 3 if deep else "") / f"{k}.png"
        )
    encoder = tiny.encoder("gn_ws")
    data = dataclasses.replace(encoder.config.data, image_size=8, channels=3)
    config = dataclasses.replace(encoder.config, data=data)
    encoder = dataclasses.replace(encoder, config=config)
    fitted = Fitted(np.zeros((16, 2)), np.float32([0, 1]))
    predictor = Predictor(encoder, fitted, ("a", "b"), False)
    monkeypatch.setattr(predictors, "load_predictor", lambda *given: predictor)
    out = tmp_path / "out.csv"
    asked = PredictConfig("x.npz", f"folder:{folder}", str(out), unlabelled=deep)
    assert predict(asked) == {}
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert len({row["picture"] for row in rows}) == 12 == len(rows)
    assert {row["class"] for row in rows} == {"b"}
    whole = out.read_bytes()
    with monkeypatch.context() as full, pytest.raises(InputError, match="not written"):
        full.setattr(files.os, "fsync", no_space)
        predict(asked)
    assert out.read_bytes() == whole


def pictures(folder, classes=("a", "b"), channel=0):
    """Sixteen bright or dark pictures: `channel` is bright in those of class 1."""
    for split in ("train", "test"):
        for number, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for k in range(4):
                pixels = np.full((8, 8, 3), 10 * k, np.uint8)
                pixels[..., channel] = 255 * number
                Image.fromarray(pixels).save(folder / split / name / f"{k}.png")
    return folder


@pytest.fixture
def fitted_on_a(tmp_path, monkeypatch):
    """A predictor whose run trained on the shapes, and which was fitted on folder a."""
    encoder = tiny.encoder("gn_ws")
    data = dataclasses.replace(encoder.config.data, image_size=8, channels=3)
    config = dataclasses.replace(encoder.config, data=data)
    encoder = dataclasses.replace(encoder, config=config)
    there = pictures(tmp_path / "a")
    asked = EvaluateConfig("run", dataset=f"folder:{there}")
    about = data_of(config, asked)
    fitted = Fitted(np.zeros((16, 2)), np.float32([0, 1]))
    predictor = Predictor(encoder, fitted, ("a", "b"), False, about)
    monkeypatch.setattr(predictors, "load_predictor", lambda *given: predictor)
    return tmp_path


@pytest.mark.parametrize("given", [None, "{0}/a", "{0}/a/", "{0}/b/../a", "a"])
def test_the_set_of_the_classifier_is_the_default_and_its_test_split_is_predicted(
    fitted_on_a, monkeypatch, given
):
    """Its training pictures would make the predictions look too good."""
    monkeypatch.chdir(fitted_on_a)
    pictures(fitted_on_a / "b")
    dataset = given and f"folder:{given.format(fitted_on_a)}"
    out = fitted_on_a / "out.csv"
    assert predict(PredictConfig("x.npz", dataset, str(out))) == {"test": 0.5}
    assert len(list(csv.DictReader(out.open()))) == 8
    asked = PredictConfig("x.npz", dataset, str(out), split="all")
    assert predict(asked) == {"train": 0.5, "test": 0.5}


def test_labels_of_other_classes_are_not_compared(fitted_on_a, capsys):
    other = pictures(fitted_on_a / "c", classes=("a", "z"), channel=1)
    out = fitted_on_a / "out.csv"
    assert predict(PredictConfig("x.npz", f"folder:{other}", str(out))) == {}
    assert "classes that the classifier does not know (z)" in capsys.readouterr().out
    assert len(list(csv.DictReader(out.open()))) == 16


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    with pytest.raises(InputError, match="--out .* cannot be written"):
        predict(PredictConfig("x.npz", out=str(tmp_path / "none" / "out.csv")))


@pytest.mark.parametrize("name", ["dataset", "data_dir", "workdir", "out"])
def test_an_empty_text_is_not_taken_for_a_setting_that_is_not_given(name):
    with pytest.raises(InputError, match="is ''; it must be a non-empty text"):
        PredictConfig("x.npz", **{name: ""})


@pytest.mark.parametrize("content", [None, b"", b"PK nothing"])
def test_what_is_no_classifier_is_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "a.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="is not a classifier.*evaluate --save"):
        load_predictor(path)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["linear_cached", "finetune"])
def test_a_saved_classifier_gives_the_figure_of_its_row(tmp_path, protocol):
    workdir = runs.copy_of(runs.trained(), tmp_path)
    runs.run(workdir, protocol, finetune=TUNED)  # stored, without a classifier
    (row,) = runs.run(workdir, protocol, finetune=TUNED, save=True)
    (path,) = (workdir / "evaluation" / "classifiers").iterdir()
    predictor = load_predictor(path)
    test = open_source(predictor.encoder.config, "test")
    chances = predictor.on(test)
    top1 = np.mean(chances.argmax(1) == test.labels())
    assert top1 == pytest.approx(row["figures"]["top1"])
    some = test.images(np.arange(3))
    np.testing.assert_allclose(predictor(some), chances[:3], rtol=1e-3, atol=1e-5)

    out = tmp_path / "predictions.csv"
    found = predict(PredictConfig(str(path), out=str(out)))
    assert found == {"test": pytest.approx(top1)}
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == len(test) and rows[0]["class"] in test.class_names

    if protocol == "linear_cached":
        (tmp_path / "other").mkdir()
        other = runs.copy_of(runs.trained("bn"), tmp_path / "other")
        with pytest.raises(InputError, match="has another encoder"):
            load_predictor(path, other)
