"""`prepare folder:PATH`: the name stands for these pictures, and runs can read them."""

import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from byol_bnfree.command_line import parse_args
from byol_bnfree.config import TrainConfig
from byol_bnfree.data.__main__ import main
from byol_bnfree.data.prepared import find_set
from byol_bnfree.data.preparing import prepare
from byol_bnfree.data.sources import open_source
from byol_bnfree.errors import InputError


def pictures(folder: Path, count: int = 3, value: int = 9, ending: str = "bmp") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.new("RGB", (4, 4), (value,) * 3).save(folder / f"{index}.{ending}")
    return folder


def test_a_name_stands_for_one_folder_as_it_is(tmp_path):
    root, first = str(tmp_path / "sets"), pictures(tmp_path / "a" / "photos")
    assert "photos is prepared" in prepare(f"folder:{first}", root)
    assert "already prepared" in prepare(f"folder:{first}", root)
    copy = pictures(tmp_path / "copy" / "photos")
    assert "already prepared" in prepare(f"folder:{copy}", root)
    # Of the same names and sizes in bytes.
    other = pictures(tmp_path / "b" / "photos", value=200)
    sentence = "holds other pictures than .*another --data-dir, or remove"
    with pytest.raises(InputError, match=sentence):
        prepare(f"folder:{other}", root)
    pictures(first, count=4)
    with pytest.raises(InputError, match=sentence):
        prepare(f"folder:{first}", root)


def test_the_command_says_how_to_train_on_the_set(tmp_path, capsys):
    folder = pictures(tmp_path / "My Photos")
    main(["prepare", f"folder:{folder}", f"--data-dir={tmp_path / 'sets'}"])
    said = capsys.readouterr().out
    assert f"--dataset=my_photos --data-dir={tmp_path / 'sets'}" in said
    assert find_set("my_photos", tmp_path / "sets").name == "my_photos"


def test_the_command_names_all_flags_that_a_run_needs_as_a_shell_reads_them(
    tmp_path, capsys
):
    folder, root = pictures(tmp_path / "photos" / "train" / "a"), tmp_path / "my sets"
    given = ["--data.white=1000", "--data.max-pixels=99", "--evaluation.skip"]
    asked = [f"folder:{folder.parent.parent}", f"--data-dir={root}", *given]
    main(["prepare", *asked])
    said = capsys.readouterr().out.splitlines()[-1]
    flags = shlex.split(said.removeprefix("train on it with "))
    config = parse_args(flags)
    assert config.data_dir == str(root) and config.evaluation.skip
    assert (config.data.white, config.data.max_pixels) == (1000, 99)
    assert len(open_source(config, "train")) == 3


def test_a_set_that_does_not_say_what_it_holds_is_not_taken(tmp_path):
    root, folder = str(tmp_path / "sets"), pictures(tmp_path / "photos")
    prepare(f"folder:{folder}", root)
    info = find_set("photos", Path(root)).path / "dataset_info.json"
    content = json.loads(info.read_text())
    assert content.pop("downloadChecksums").keys() == {"train"} | {"test"}
    info.write_text(json.dumps(content))
    with pytest.raises(InputError, match="or does not say which"):
        prepare(f"folder:{folder}", root)


def test_a_folder_whose_name_is_no_text_is_described_in_text(tmp_path):
    folder, root = pictures(tmp_path / os.fsdecode(b"caf\xe9")), tmp_path / "sets"
    prepare(f"folder:{folder}", str(root))
    (info,) = root.rglob("dataset_info.json")
    assert "folder caf\\xe9." in json.loads(info.read_text())["description"]


def test_tensorflow_datasets_reads_such_a_set(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    prepare(f"folder:{pictures(tmp_path / 'photos')}", str(tmp_path / "sets"))
    path = find_set("photos", tmp_path / "sets").path
    found = tfds.builder_from_directory(str(path)).info
    assert found.splits["train"].num_examples == 3


@pytest.mark.parametrize("name", ["CIFAR10", "cifar100", "Shapes"])
def test_the_name_of_another_set_is_refused(name, tmp_path):
    with pytest.raises(InputError, match="rename the folder"):
        prepare(f"folder:{pictures(tmp_path / name)}", str(tmp_path / "sets"))


def arrays(folder: Path) -> None:
    for index in range(3):
        np.save(folder / f"{index}.npy", np.zeros((4, 4, 5), np.uint8))


def targa(folder: Path) -> None:
    pictures(folder, ending="tga")


def many_bands(folder: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    for index in range(3):
        tifffile.imwrite(
            folder / f"{index}.tif",
            np.zeros((4, 4, 5), np.uint8),
            photometric="minisblack",
            planarconfig="contig",
        )


@pytest.mark.parametrize("write", [arrays, targa, many_bands])
def test_pictures_that_no_run_could_read_are_refused(write, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    write(folder)
    with pytest.raises(InputError, match=r"cannot hold .*photos/0\.\w+: .*PNG"):
        prepare(f"folder:{folder}", str(tmp_path / "sets"))
    assert not list((tmp_path / "sets").rglob("*.json"))


@pytest.fixture
def hard(tmp_path):
    """A folder that needs flags: names of its own for splits, and a bad picture."""
    for split in ("seen", "new"):
        for name in ("cat", "dog"):
            pictures(tmp_path / "photos" / split / name)
    (tmp_path / "photos" / "seen" / "cat" / "0.bmp").write_bytes(b"no picture")
    return tmp_path / "photos", f"--data-dir={tmp_path / 'sets'}"


def test_the_flags_that_messages_name_are_there(hard, tmp_path, capsys):
    folder, root = hard
    command = ["prepare", f"folder:{folder}", root]
    splits = ["--data.train-split=seen", "--data.test-split=new"]
    with pytest.raises(InputError, match="--on-bad-image=skip"):
        main([*command, *splits])
    main([*command, *splits, "--on-bad-image=skip"])
    assert "left out" in capsys.readouterr().out
    assert find_set("photos", tmp_path / "sets").splits == {"train": 5, "test": 6}


def test_all_pictures_without_classes(tmp_path):
    for name in "ab":
        pictures(tmp_path / "photos" / name)
    root = str(tmp_path / "sets")
    main(
        [
            "prepare",
            f"folder:{tmp_path / 'photos'}",
            f"--data-dir={root}",
            "--data.unlabelled",
            "--evaluation.skip",
        ]
    )
    source = open_source(TrainConfig(dataset="photos", data_dir=root, steps=1), "train")
    assert len(source) == 6 and source.class_names == ()


def test_flags_of_folders_are_refused_elsewhere(tmp_path):
    with pytest.raises(InputError, match="belong to folder:PATH, and not to mnist"):
        main(["prepare", "mnist", "--data.unlabelled", f"--data-dir={tmp_path}"])
