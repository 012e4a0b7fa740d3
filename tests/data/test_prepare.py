"""What is on disk is found without a network; what is not is one sentence."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from byol_bnfree.config import TrainConfig
from byol_bnfree.data import cifar, preparing
from byol_bnfree.data.__main__ import main
from byol_bnfree.data.prepared import find_set, list_sets
from byol_bnfree.data.preparing import prepare
from byol_bnfree.data.sources import open_source
from byol_bnfree.errors import InputError

TFDS = Path(__file__).parents[2] / "../shared/tfds"


def put(root: Path, name: str, version: str, file_format="array_record") -> None:
    path = root / name / version
    path.mkdir(parents=True)
    splits = [{"name": "train", "shardLengths": ["3", "4"]}]
    info = {"name": name, "fileFormat": file_format, "splits": splits}
    (path / "dataset_info.json").write_text(json.dumps(info))


def test_sets_are_listed_with_version_splits_and_format(tmp_path, capsys):
    put(tmp_path, "digits", "1.0.0")
    put(tmp_path, "resized/8x8", "2.10.0", "tfrecord")
    put(tmp_path, "digits", "1.0.1.incompleteABC")
    main(["list", f"--data-dir={tmp_path}"])
    assert capsys.readouterr().out.splitlines() == [
        "digits 1.0.0: train 7 (array_record)",
        "resized/8x8 2.10.0: train 7 (tfrecord)",
    ]


@pytest.mark.parametrize(
    "foreign",
    [
        {"splits": {"train": {"num_examples": 7}}},  # of Hugging Face
        {"splits": None},
        {},
        [],
        {"splits": [{"shardLengths": ["3"]}]},
        {"splits": [{"name": "train", "shardLengths": ["many"]}]},
    ],
)
def test_a_file_of_the_same_name_by_another_program_is_no_set(tmp_path, foreign):
    put(tmp_path, "digits", "1.0.0")
    (tmp_path / "mine" / "train").mkdir(parents=True)
    (tmp_path / "mine" / "train" / "dataset_info.json").write_text(json.dumps(foreign))
    assert [found.name for found in list_sets(tmp_path)] == ["digits"]
    assert find_set("digits", tmp_path).splits == {"train": 7}


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_file_in_place_of_the_root_is_refused(tmp_path, where):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--data-dir .* is a file; give a folder"):
        prepare("cifar10", str(tmp_path / where))


@pytest.mark.parametrize(
    "argv",
    ["list --data-dir=", "prepare cifar10 --data-dir=", "prepare cifar10 --archive="],
)
def test_an_empty_text_is_refused(argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is ''; it must be a non-empty text"):
        main(argv.split())


def test_listing_nothing_says_so(tmp_path, capsys):
    main(["list", f"--data-dir={tmp_path}"])
    assert "no prepared data set" in capsys.readouterr().out


def test_newest_version_is_taken_unless_one_is_named(tmp_path):
    for version in ("1.9.0", "1.10.0"):
        put(tmp_path, "digits", version)
    put(tmp_path, "digits", "2.0.0", "tfrecord")
    assert find_set("digits", tmp_path).version == "1.10.0"
    assert find_set("digits:1.9.0", tmp_path).version == "1.9.0"


def test_configuration_is_found_or_asked_for(tmp_path):
    put(tmp_path, "resized/8x8", "1.0.0")
    assert find_set("resized", tmp_path) == find_set("resized/8x8", tmp_path)
    put(tmp_path, "resized/16x16", "1.0.0")
    with pytest.raises(InputError, match="resized/16x16, resized/8x8"):
        find_set("resized", tmp_path)


def test_missing_set_names_folder_and_command(tmp_path):
    put(tmp_path, "digits", "1.0.0")
    config = TrainConfig(dataset="cifar10", data_dir=str(tmp_path), steps=1)
    with pytest.raises(InputError) as error:
        open_source(config, "train")
    command = f"python -m byol_bnfree.data prepare cifar10 --data-dir={tmp_path}"
    assert command in str(error.value) and "there: digits" in str(error.value)


def test_other_file_format_is_named(tmp_path):
    put(tmp_path, "digits", "1.0.0", "tfrecord")
    with pytest.raises(InputError, match="stored as tfrecord.*prepare digits"):
        find_set("digits", tmp_path)


@pytest.mark.skipif(not TFDS.is_dir(), reason="prepared data sets absent")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "lacks its file.*prepare it again"),
        (lambda file: file.write_bytes(b"junk" * 99), "damaged.*prepare it again"),
    ],
)
def test_lost_or_damaged_files_are_one_sentence(tmp_path, damage, message):
    name = "fashion_mnist"
    shutil.copytree(TFDS / name, tmp_path / name, copy_function=shutil.copyfile)
    (file,) = tmp_path.rglob("*-test.*")
    damage(file)
    config = TrainConfig(dataset=name, data_dir=str(tmp_path), steps=1)
    with pytest.raises(InputError, match=message):
        open_source(config, "test")


def test_preparing_twice_says_so(tmp_path, capsys):
    put(tmp_path, "digits", "1.0.0")
    main(["prepare", "digits", f"--data-dir={tmp_path}"])
    assert "already prepared" in capsys.readouterr().out


def test_another_version_is_not_prepared_already(tmp_path, monkeypatch):
    put(tmp_path, "digits", "1.0.0")
    assert "already prepared" in prepare("digits:1.0.0", str(tmp_path))
    monkeypatch.setattr(preparing, "_prepare_by_tfds", lambda name, root: "here")
    monkeypatch.setattr(preparing.importlib.util, "find_spec", lambda name: object())
    assert prepare("digits:2.0.0", str(tmp_path)) == "digits:2.0.0 is prepared: here"


def test_cifar_has_one_version(tmp_path):
    with pytest.raises(InputError, match="no version 2.0.0 here.*version 3.0.2"):
        prepare("cifar10:2.0.0", str(tmp_path))
    put(tmp_path, "cifar10", "3.0.2")
    assert "already prepared" in prepare("cifar10:3.0.2", str(tmp_path))


def test_a_version_that_tensorflow_datasets_lacks_is_one_sentence(
    tmp_path, monkeypatch
):
    import tensorflow_datasets as tfds

    def refuse(*args, **kwargs):
        raise AssertionError("Dataset digits cannot be loaded at version 9.0.0.")

    monkeypatch.setattr(preparing.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(tfds, "builder", refuse)
    with pytest.raises(InputError, match="cannot be loaded at version"):
        prepare("digits:9.0.0", str(tmp_path))


def test_a_copy_in_another_format_is_refused_before_the_download(tmp_path, monkeypatch):
    put(tmp_path, "cifar10", "3.0.2", "tfrecord")
    downloads = []
    monkeypatch.setattr(cifar, "_downloaded", lambda *args: downloads.append(args))
    with pytest.raises(InputError, match="3.0.2 exists.*another --data-dir"):
        prepare("cifar10", str(tmp_path))
    assert not downloads


def test_preparing_without_tensorflow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "\.\[tf\]"'):
        prepare("mnist", str(tmp_path))


def test_preparing_an_unknown_set_names_the_catalogue(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(InputError, match="catalog"):
        prepare("cifar11", str(tmp_path))


class FakeBuilder:
    def __init__(self, *, error=None):
        self.error, self.data_dir = error, "here"

    def download_and_prepare(self):
        if self.error:
            raise self.error


def test_preparing_asks_for_array_record(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    asked = {}
    monkeypatch.setattr(preparing.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(
        tfds, "builder", lambda n, **kw: asked.update(kw) or FakeBuilder()
    )
    assert prepare("digits", str(tmp_path)) == "digits is prepared: here"
    assert asked == {"data_dir": str(tmp_path), "file_format": "array_record"}


def test_failed_preparation_says_why(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    builder = FakeBuilder(error=OSError("no space left"))
    monkeypatch.setattr(preparing.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(tfds, "builder", lambda *args, **kw: builder)
    with pytest.raises(InputError, match="no space left"):
        prepare("digits", str(tmp_path))


def test_command_line_fails_with_a_sentence_and_status_2(tmp_path):
    command = [sys.executable, "-m", "byol_bnfree.data", "list", "--data-dir=/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1 and "/nowhere" in done.stderr
