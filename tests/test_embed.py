"""Features of any pictures in a file, and pictures of those without a class."""

import csv
import os

import numpy as np
import pytest
from PIL import Image

import runs
import tiny
from byol_bnfree import embed as command
from byol_bnfree.config import DataConfig, EvalConfig, TrainConfig
from byol_bnfree.data.preparing import prepare
from byol_bnfree.data.set_writer import Description, Picture, Split, write_set
from byol_bnfree.embed import EmbedConfig, embed
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.kept.embedding import (
    Embedding,
    check_file,
    save_embedding,
)
from byol_bnfree.evaluation.pictures_of import (
    asked_for,
    everything,
    files_of,
    represented,
)

ODD = ["a$b$.png", "[bold].png", "ü.png", os.fsdecode(b"\xff.png")]


def draw(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.parts)).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(noise).save(path)


def found(folder, unlabelled=False, split="all"):
    config = TrainConfig(
        dataset=f"folder:{folder}",
        data=DataConfig(image_size=8, channels=3, unlabelled=unlabelled),
        evaluation=EvalConfig(skip=True),
    )
    pictures = everything(config, split, folder)
    return represented(tiny.encoder("gn_ws"), pictures, 4)


@pytest.fixture
def classes(tmp_path):
    """Eight pictures of two classes, with names that need care."""
    for name in ODD:
        for k in ("$x_1$", "y"):
            draw(tmp_path / "set" / k / name)
    return tmp_path / "set"


def test_every_picture_is_there_once_labels_or_not(classes):
    labelled, without = found(classes), found(classes, unlabelled=True)
    for embedding in (labelled, without):
        assert sorted(embedding.files) == sorted({*embedding.files})
        assert len(embedding.files) == 8 and embedding.features.shape == (8, 16)
    assert [name.split("/")[0] for name in labelled.files] == labelled.classes
    assert {*without.classes} == {""} and {*without.splits} == {"train"}
    by_file = dict(zip(labelled.files, labelled.features, strict=True))
    for name, features in zip(without.files, without.features, strict=True):
        np.testing.assert_allclose(features, by_file[name], rtol=1e-5)
    assert len(found(classes, split="test").files) < 8


def test_a_prepared_folder_has_the_files_of_the_folder_each_once(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for k in range(20):  # two of which are held out, and are in both splits
        pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{k}.png")
    root = str(tmp_path / "sets")
    prepare(f"folder:{tmp_path / 'photos'}", root)
    data = DataConfig(image_size=8, channels=3)
    config = TrainConfig(dataset="photos", data_dir=root, data=data)
    pictures = everything(asked_for(config), "all", tmp_path)
    names = [name for source in pictures.sources for name in files_of(source)]
    assert sorted(names) == sorted(f"{k}.png" for k in range(20))


def write_splits(root, *names):
    """A prepared set with a picture in each of these splits."""
    file = root / "one.png"
    draw(file)
    pictures = [Picture(file.read_bytes(), None, "one")]
    splits = {name: Split(1, pictures) for name in names}
    write_set(root, Description("seen", "1.0.0", "", (), (8, 8, 3)), splits)
    data = DataConfig(image_size=8, channels=3)
    return TrainConfig(data_dir=str(root), data=data)


@pytest.mark.parametrize("second", ["test", "validation"])
def test_the_second_split_of_a_set_is_taken_whatever_its_name(second, tmp_path):
    run = write_splits(tmp_path, "train", second)
    pictures = everything(asked_for(run, dataset="seen"), "all", tmp_path)
    assert len(pictures.sources) == 2


def test_a_split_that_is_not_taken_is_named(tmp_path, capsys):
    run = write_splits(tmp_path, "train", "dev")
    pictures = everything(asked_for(run, dataset="seen"), "all", tmp_path)
    assert len(pictures.sources) == 1
    assert "no split 'test'; it has train, dev" in capsys.readouterr().out


def test_the_command_says_what_it_wrote(monkeypatch, capsys):
    found = Embedding(
        features=np.zeros((3, 4), np.float32),
        files=["a", "b", "c"],
        splits=["train", "train", "test"],
        labels=np.zeros(3, np.int32),
        class_names=("x",),
    )
    monkeypatch.setattr(command, "embed", lambda config: found)
    command.main(["--workdir=run", "--out=f.npz"])
    said = "3 pictures (2 train, 1 test) of 4 features each in f.npz\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("ending", ["npz", "csv", "parquet"])
def test_a_file_gives_back_what_was_written(classes, ending, tmp_path):
    if ending == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
    embedding, path = found(classes), tmp_path / f"features.{ending}"
    save_embedding(path, embedding)
    if ending == "npz":
        with np.load(path) as file:  # allow_pickle is False
            names = file["class_names"][file["labels"]].tolist()
            read = file["files"].tolist(), names, file["features"]
    elif ending == "csv":
        head, *rows = csv.reader(path.open(encoding="utf-8", newline=""))
        assert head[:4] == ["file", "split", "class", "f0"]
        features = np.array([row[3:] for row in rows]).astype(np.float32)
        read = [row[0] for row in rows], [row[2] for row in rows], features
    else:
        table = parquet.read_table(path).to_pydict()
        read = table["file"], table["class"], np.array(table["features"], np.float32)
    assert (read[0], read[1]) == (embedding.files, embedding.classes)
    np.testing.assert_array_equal(read[2], embedding.features)
    assert any("\\xff" in name for name in read[0])


@pytest.mark.parametrize("name", ["dataset", "data_dir", "out"])
def test_an_empty_text_is_refused(name):
    with pytest.raises(InputError, match="is ''; it must be a non-empty text"):
        EmbedConfig("run", **{name: ""})


@pytest.mark.parametrize("name", ["a.txt", "missing/a.npz", "folder.npz"])
def test_a_file_that_cannot_be_is_refused_before_any_work(name, tmp_path):
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InputError, match="--out"):
        embed(EmbedConfig(workdir="nowhere", out=str(tmp_path / name)))
    with pytest.raises(InputError, match="not the work folder"):
        embed(EmbedConfig(workdir=str(tmp_path), out=str(tmp_path / "a.npz")))
    assert check_file(str(tmp_path / "a.csv")).name == "a.csv"


@pytest.mark.slow
def test_a_folder_without_classes_is_embedded_and_drawn(tmp_path, capsys):
    workdir = runs.copy_of(runs.trained(), tmp_path)
    for name in [*ODD, *(f"{k}.png" for k in range(8))]:
        draw(tmp_path / "flat" / name)
    dataset, out = f"folder:{tmp_path}/flat", tmp_path / "out.npz"
    assert len(embed(EmbedConfig(str(workdir), dataset, out=str(out))).files) == 12
    assert runs.run(workdir, "knn", dataset=dataset, plot=True) == []
    assert "has no classes" in capsys.readouterr().out
    for name in ("embedding", "neighbours"):
        with Image.open(workdir / f"{name}.png") as picture:
            assert min(picture.size) > 100
    assert not (workdir / "confusion.png").exists()
    with pytest.raises(InputError, match="or draw pictures with --plot"):
        runs.run(workdir, "knn", dataset=dataset)
