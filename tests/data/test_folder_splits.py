"""The splits of a folder: what is a split, and that none shares a picture."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from byol_bnfree.config import EvalConfig, TrainConfig
from byol_bnfree.data.sources import find_data
from byol_bnfree.errors import InputError


def write(root: Path, *folders: str, count: int = 3) -> None:
    """Pictures that are all different."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            draws = np.random.default_rng(list(f"{folder}/{k}".encode()))
            noise = draws.integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(noise).save(root / folder / f"{k}.png")


def found(root: Path, skip: bool = False):
    evaluation = EvalConfig(skip=skip)
    return find_data(TrainConfig(dataset=f"folder:{root}", evaluation=evaluation)).found


@pytest.mark.parametrize(
    "names", [("training", "testing"), ("Training", "valid"), ("dev", "eval"), ("val",)]
)
def test_folders_with_names_of_splits_are_no_classes(tmp_path, names):
    write(tmp_path, *(f"{name}/{k}" for name in names for k in "ab"))
    own = r"name one with --data.train-split \(--train-split in evaluate\)"
    with pytest.raises(InputError, match=own):
        found(tmp_path)


def test_a_class_may_be_named_as_a_rarer_split_is(tmp_path):
    write(tmp_path, "dev", "valid", "cat")
    assert found(tmp_path).train.class_names == ("cat", "dev", "valid")


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_test_picture_that_is_trained_on_is_an_error(tmp_path, link):
    write(tmp_path, "train/a", "train/b", "test/a")
    link(tmp_path / "train/b/1.png", tmp_path / "test/a/x.png")
    with pytest.raises(InputError, match="1 of 4 test .*test/a/x.png and train/b/1"):
        found(tmp_path)
    assert len(found(tmp_path, skip=True).train) == 6


def test_copies_of_training_pictures_in_the_test_split_are_counted(tmp_path):
    write(tmp_path, "train/a", "train/b", "test/a", "test/b")
    assert not found(tmp_path).notes
    for k in (1, 2):
        copy = tmp_path / f"test/a/copy{k}.png"
        shutil.copyfile(tmp_path / f"train/b/{k}.png", copy)
    (note,) = found(tmp_path).notes
    assert "2 of 8 test pictures checked are copies of training pictures" in note
    assert "test/a/copy1.png and train/b/1.png are equal" in note
    assert not found(tmp_path, skip=True).notes


@pytest.mark.parametrize("limit", [0, 4])
def test_few_files_are_read_to_find_copies(tmp_path, monkeypatch, limit):
    for split in ("train", "test"):
        for k in range(4):
            path = tmp_path / split / "ab"[k % 2] / f"{k}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            side = 8 + k if k else 8 + 8 * (split == "test")  # one has its own size
            Image.new("L", (side, side), k).save(path)
    read = []

    def digest(path):
        read.append(path.name)
        return path.name.encode()

    monkeypatch.setattr("byol_bnfree.data.folder_links.Path.read_bytes", digest)
    monkeypatch.setattr("byol_bnfree.data.folder_links.MOST_READ", limit)
    notes = found(tmp_path).notes
    assert len(read) == limit and "0.bmp" not in read
    assert [note.split(" test")[0] for note in notes] == ["2 of 3"] * bool(limit)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_one_file_in_two_classes_is_noted(tmp_path, link):
    write(tmp_path, "train/a", "train/b", "test/a")
    link(tmp_path / "train/b/1.png", tmp_path / "train/b/again.png")
    assert not found(tmp_path).notes
    link(tmp_path / "train/b/1.png", tmp_path / "train/a/x.png")
    (note,) = found(tmp_path).notes
    assert "2 of 8 pictures of the train split" in note
    assert "train/a/x.png and train/b/1.png are one file" in note


def test_one_folder_under_two_names_is_an_error(tmp_path):
    write(tmp_path, "train/a", "train/b")
    os.symlink("train", tmp_path / "test")
    with pytest.raises(InputError, match="6 of 6 test pictures"):
        found(tmp_path)


@pytest.mark.parametrize("folder", ["test", "test/c"])
def test_a_run_without_evaluation_goes_without_a_bad_test_split(tmp_path, folder):
    write(tmp_path, "train/a", "train/b")
    write(tmp_path, folder, count=0 if folder == "test" else 3)
    with pytest.raises(InputError, match="test"):
        found(tmp_path)
    only = found(tmp_path, skip=True)
    assert only.test is None and len(only.train) == 6
    assert only.notes[0].startswith("the test split is not used: ")


def test_links_to_nothing_and_classes_of_nearly_one_name_are_noted(tmp_path):
    write(tmp_path, "dog", "Dog", "caf\u00e9", "cafe\u0301")
    os.symlink("/nowhere", tmp_path / "cat")
    notes = " ".join(found(tmp_path).notes)
    assert "1 link to nothing (cat)" in notes
    assert "Dog and dog" in notes and "cafe\u0301 and caf\u00e9" in notes
