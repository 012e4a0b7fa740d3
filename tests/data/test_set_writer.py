"""CIFAR and folders become array_record without TensorFlow or tensorflow-datasets."""

import io
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from byol_bnfree.config import TrainConfig
from byol_bnfree.data import cifar, set_writer
from byol_bnfree.data.__main__ import main
from byol_bnfree.data.prepared import find_set
from byol_bnfree.data.preparing import prepare
from byol_bnfree.data.set_files import read_spans
from byol_bnfree.data.sources import open_source
from byol_bnfree.data.tf_example import decode_example, encode_example
from byol_bnfree.errors import InputError

CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
EACH = 4  # records of a file


def archive_of(path: Path, labels: int = 1, cut: int = 0, top: int = 10) -> dict:
    """A small archive in the format of the authors' binary version; its content."""
    draws = np.random.default_rng(0)
    source = cifar.ARCHIVES["cifar10" if labels == 1 else "cifar100"]
    content = {}
    with tarfile.open(path, "w:gz") as archive:

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(f"cifar-batches-bin/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

        add(source.names, ("\n".join(CLASSES) + "\n\n").encode())
        for split, names in source.files.items():
            records = draws.integers(
                0, 256, (EACH * len(names), labels + cifar.PIXELS), dtype=np.uint8
            )
            records[:, :labels] = draws.integers(0, top, (len(records), labels))
            content[split] = records
            for index, name in enumerate(names):
                piece = records[EACH * index : EACH * (index + 1)].tobytes()
                add(name, piece[cut:])
    return content


def test_a_disk_that_takes_no_more_is_one_sentence_and_leaves_nothing(tmp_path):
    program = (
        "import os, resource, signal\n"
        "from pathlib import Path\n"
        "from byol_bnfree.command_line import exit_on_error\n"
        "from byol_bnfree.data import set_writer as w\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "pictures = (w.Picture(os.urandom(5000), None, str(k)) for k in range(40))\n"
        "about = w.Description('d', '1.0.0', '', (), (8, 8, 3))\n"
        "splits = {'train': w.Split(40, pictures)}\n"
        f"root = Path({str(tmp_path)!r})\n"
        "exit_on_error(lambda: w.write_set(root, about, splits))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "d-train.array_record-00000-of-00001: File too large" in done.stderr
    assert not [*(tmp_path / "d").iterdir()]


STOPPED = """
import sys, time
from pathlib import Path
from byol_bnfree.data import __main__ as data, set_writer as w

def pictures():
    yield w.Picture(b"it", None, "it")
    print("writing", flush=True)
    time.sleep(60)

def main():
    about = w.Description("d", "1.0.0", "", (), (8, 8, 3))
    w.write_set(Path(sys.argv[1]), about, {"train": w.Split(2, pictures())})

data.main = main
data.command()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_of_a_set(number, tmp_path):
    command = [sys.executable, "-c", STOPPED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        assert len([*(tmp_path / "d").iterdir()]) == 1
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    assert not [*(tmp_path / "d").iterdir()]


def test_what_a_killed_program_has_left_is_named_and_stays(tmp_path, capsys):
    left = tmp_path / "photos" / "1.0.0.incompleteabc"
    left.mkdir(parents=True)
    described = set_writer.Description("photos", "1.0.0", "", ("a",), (2, 2, 3))
    split = {"train": set_writer.Split(1, [set_writer.Picture(b"it", 0, "it")])}
    set_writer.write_set(tmp_path, described, split)
    assert (
        f"note: {left} is a part of a set; remove it if no program"
        in capsys.readouterr().out
    )
    assert left.exists()


@pytest.mark.parametrize("name, labels", [("cifar10", 1), ("cifar100", 2)])
def test_cifar_is_read_from_its_archive(name, labels, tmp_path, capsys):
    content = archive_of(tmp_path / "archive.tar.gz", labels)
    archive = f"--archive={tmp_path / 'archive.tar.gz'}"
    main(["prepare", name, f"--data-dir={tmp_path}", archive])
    assert f"{name} is prepared" in capsys.readouterr().out
    for split, records in content.items():
        source = open_source(
            TrainConfig(dataset=name, data_dir=str(tmp_path), steps=1), split
        )
        pixels = records[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        everything = np.arange(len(source))
        np.testing.assert_array_equal(source.images(everything), pixels)
        np.testing.assert_array_equal(source.labels(), records[:, labels - 1])
        assert source.class_names == tuple(CLASSES)


def test_tensorflow_datasets_reads_the_same(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    content = archive_of(tmp_path / "archive.tar.gz")
    prepare("cifar10", str(tmp_path), str(tmp_path / "archive.tar.gz"))
    found = tfds.data_source("cifar10", split="test", data_dir=tmp_path, download=False)
    records = content["test"]
    assert [row["label"] for row in found] == records[:, 0].tolist()
    pixels = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal([row["image"] for row in found], pixels)
    assert found[0]["id"] == b"test_00000" or found[0]["id"] == "test_00000"


def test_preparing_and_reading_import_neither(tmp_path):
    archive_of(tmp_path / "a.tar.gz")
    program = f"""
import sys
for name in ("tensorflow", "tensorflow_datasets"):
    sys.modules[name] = None  # an import of it fails
from byol_bnfree.config import TrainConfig
from byol_bnfree.data.preparing import prepare
from byol_bnfree.data.sources import open_source
prepare("cifar10", {str(tmp_path)!r}, {str(tmp_path / "a.tar.gz")!r})
config = TrainConfig(dataset="cifar10", data_dir={str(tmp_path)!r}, steps=1)
assert len(open_source(config, "train")) == 20
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"cut": 1}, "not whole records"),
        ({"top": 200}, "names 10"),
        (None, "cannot be read as an archive"),
    ],
)
def test_another_archive_is_one_sentence_and_leaves_nothing(change, sentence, tmp_path):
    path = tmp_path / "archive.tar.gz"
    if change is None:
        path.write_bytes(b"no archive")
    else:
        archive_of(path, **change)
    with pytest.raises(InputError, match=sentence):
        prepare("cifar10", str(tmp_path), str(path))
    assert not list(tmp_path.rglob("*.json"))


def test_a_damaged_archive_is_not_prepared(tmp_path):
    """The checksum of a gzip file is at its end, after all pictures."""
    path = tmp_path / "archive.tar.gz"
    archive_of(path)
    whole = path.read_bytes()
    for place in np.linspace(100, len(whole) - 100, 7).astype(int):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read as an archive"):
            prepare("cifar10", str(tmp_path), str(path))
    assert not list(tmp_path.rglob("*.json"))


def test_what_was_downloaded_is_compared_with_the_checksum(tmp_path):
    path = tmp_path / "downloads" / "cifar-10-binary.tar.gz"
    path.parent.mkdir()
    archive_of(path)
    with pytest.raises(InputError, match="checksum"):
        prepare("cifar10", str(tmp_path))
    with pytest.raises(InputError, match="belongs to cifar10 and cifar100"):
        prepare("mnist", str(tmp_path), str(path))


def test_a_folder_becomes_a_set_of_the_same_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(set_writer, "SHARD_RECORDS", 5)
    draws, photos = np.random.default_rng(0), tmp_path / "My Photos"
    for name in ("cat", "dog"):
        (photos / name).mkdir(parents=True)
        for index in range(10):
            pixels = draws.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(photos / name / f"{index}.png")
    main(["prepare", f"folder:{photos}", f"--data-dir={tmp_path / 'sets'}"])
    for split in ("train", "test"):
        of_folder = open_source(TrainConfig(dataset=f"folder:{photos}"), split)
        prepared = open_source(
            TrainConfig(dataset="my_photos", data_dir=str(tmp_path / "sets")), split
        )
        everything = np.arange(len(of_folder))
        np.testing.assert_array_equal(
            prepared.images(everything), of_folder.images(everything)
        )
        np.testing.assert_array_equal(prepared.labels(), of_folder.labels())
        assert prepared.class_names == ("cat", "dog")
    assert len(find_set("my_photos", tmp_path / "sets").shards["train"]) == 4


def test_a_set_that_is_there_is_not_written_again(tmp_path):
    (tmp_path / "photos" / "1.0.0").mkdir(parents=True)
    described = set_writer.Description("photos", "1.0.0", "", (), (None, None, 3))
    with pytest.raises(InputError, match="exists.*remove it"):
        set_writer.write_set(tmp_path, described, {})
    assert not list((tmp_path / "photos").glob("*.incomplete*"))


def test_the_files_are_on_the_disk_before_the_folder_has_its_name(
    tmp_path, monkeypatch
):
    done, fsync, rename = [], os.fsync, Path.rename

    def sync(descriptor):
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(
        Path, "rename", lambda self, to: (done.append("name"), rename(self, to))
    )
    pictures = [set_writer.Picture(b"it", 0, "it")]
    described = set_writer.Description("photos", "1.0.0", "", ("a",), (2, 2, 3))
    split = {"train": set_writer.Split(1, pictures)}
    folder = set_writer.write_set(tmp_path, described, split)
    *before, scratch, name, after = done
    assert {*before} == {file.name for file in folder.iterdir()}
    assert scratch.startswith("1.0.0.incomplete") and name == "name"
    assert after == "photos"


UTF_8 = """
import sys
from pathlib import Path
from byol_bnfree.data import set_files, set_writer
from byol_bnfree.data.prepared import find_set
root, names = Path(sys.argv[1]), ("K\\u00e4se", "\\u732b")
described = set_writer.Description("photos", "1.0.0", "", names, (2, 2, 3))
set_writer.write_set(root, described, {"train": set_writer.Split(0, [])})
assert set_files.read_features(find_set("photos", root)).class_names == names
"""


def test_names_of_classes_are_utf_8_whatever_the_locale(tmp_path):
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", UTF_8, str(tmp_path)]
    subprocess.run(command, env=os.environ | ascii_only, check=True, timeout=120)
    written = (tmp_path / "photos" / "1.0.0" / "label.labels.txt").read_bytes()
    assert written == "K\u00e4se\n\u732b\n".encode()


def test_slices_are_those_of_tensorflow_datasets(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    archive_of(tmp_path / "archive.tar.gz")
    prepare("cifar10", str(tmp_path), str(tmp_path / "archive.tar.gz"))
    found = find_set("cifar10", tmp_path)
    info = tfds.builder_from_directory(str(found.path)).info
    splits = ("train", "train[:33%]", "train[7:]", "train[-3:]", "test+train[2:90%]")
    for split in splits:
        expected = info.splits[split].file_instructions
        ours = read_spans(found, split)
        assert [span[:3] for span in ours] == [
            (i.filename, i.skip, i.take) for i in expected
        ]


def test_an_example_is_that_of_tensorflow():
    proto = pytest.importorskip("tensorflow_datasets.proto.tf_example_pb2")
    record = encode_example({"image": b"\x00\xff", "label": 7})
    theirs = proto.Example.FromString(record).features.feature
    assert theirs["image"].bytes_list.value[0] == b"\x00\xff"
    assert theirs["label"].int64_list.value[0] == 7
    ours = decode_example(record)
    assert ours["label"].int64_list.value[0] == 7
