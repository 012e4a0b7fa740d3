"""Stored values become pixels as the settings say; nothing is lost without a word."""

import dataclasses
import errno
import io
import os

import numpy as np
import pytest
from PIL import Image

from byol_bnfree.config import DataConfig, TrainConfig
from byol_bnfree.data.check import odd_pictures
from byol_bnfree.data.decode import decode, read_header
from byol_bnfree.data.eight_bits import Conversion
from byol_bnfree.data.geometry import to_array
from byol_bnfree.data.listing import Unused, pictures_below
from byol_bnfree.data.names import printable
from byol_bnfree.data.reading import BadImage, Fault, ReadingFailed
from byol_bnfree.data.sources import find_data, open_source
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.images.splits import open_splits
from byol_bnfree.evaluation.pictures_of import everything


def encode(image: Image.Image, fmt: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, fmt)
    return file.getvalue()


def pixels(image: Image.Image, fmt: str = "PNG", **how) -> np.ndarray:
    return to_array(decode(encode(image, fmt), "it", 1, Conversion(**how)))


def test_twelve_bits_stored_in_sixteen_keep_their_values():
    deep = Image.fromarray(np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16))
    assert len(np.unique(pixels(deep))) == 17
    scaled = pixels(deep, white=4095)
    assert len(np.unique(scaled)) >= 255 and scaled.max() == 254


def test_pictures_of_twelve_bits_are_noticed_at_any_use(tmp_path, capsys):
    """The first two values are the ends, so that the range is full."""
    for k in range(8):
        values = np.random.default_rng(k).integers(0, 4096, (16, 16), np.uint16)
        values[0, :2] = 0, 4095
        path = tmp_path / "set" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(Image.fromarray(values)))
    run, noticed = folder(tmp_path / "set"), "pictures checked have at most 17 values"
    assert noticed in odd_pictures(open_source(run, "train"))[0]
    everything(run, "all", tmp_path).close()
    assert noticed in capsys.readouterr().out
    other = EvaluateConfig(str(tmp_path), dataset=run.dataset)
    open_splits(dataclasses.replace(run, dataset="shapes"), other)
    assert noticed in capsys.readouterr().out


def test_by_default_values_are_rounded_as_with_the_white_that_is_meant():
    deep = Image.fromarray(np.arange(2**16, dtype=np.uint16).reshape(256, 256))
    found = pixels(deep)
    np.testing.assert_array_equal(found, pixels(deep, white=65535.0))
    nearest = (np.arange(2**16) + 128) // 257
    np.testing.assert_array_equal(found.ravel(), nearest)


def test_floats_have_the_white_that_is_given():
    image = Image.fromarray(np.float32([[0, 0.5], [1, 2]]))
    with pytest.raises(BadImage, match="--data.white"):
        read_header(encode(image, "TIFF"), "it")
    assert pixels(image, "TIFF", white=1.0).ravel().tolist() == [0, 128, 255, 255]


@pytest.mark.parametrize(
    ("alpha", "shown"), [("white", 255), ("black", 0), ("ignore", 90)]
)
def test_transparency_shows_what_is_asked_for(alpha, shown):
    clear = Image.new("RGBA", (4, 4), (90, 90, 90, 0))
    assert (pixels(clear, alpha=alpha) == shown).all()


@pytest.mark.parametrize(
    ("array", "reason"),
    [(np.int32([[-1]]), "negative"), (np.float32([[np.nan]]), "not finite")],
)
def test_values_without_a_meaning_say_which(array, reason):
    with pytest.raises(BadImage, match=reason):
        pixels(Image.fromarray(array), "TIFF", white=10.0)


def folder(path, **data) -> TrainConfig:
    return TrainConfig(dataset=f"folder:{path}", steps=1, data=DataConfig(**data))


def test_drawings_that_became_white_squares_are_noticed(tmp_path):
    for k in range(4):
        image = Image.new("RGBA", (16, 16), (255, 255, 255, 0))
        image.putpixel((k, k), (255, 255, 255, 255))
        image.save(tmp_path / f"{k}.png")
    notes = odd_pictures(open_source(folder(tmp_path), "train"))
    assert (
        "all 4 pictures checked are equal" in notes[0] and "--data.alpha" in notes[-1]
    )
    assert not any(
        "equal" in note
        for note in odd_pictures(open_source(folder(tmp_path, alpha="black"), "train"))
    )


def test_pages_that_are_not_used_are_said(tmp_path):
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "b.tif")
    (note,) = find_data(folder(tmp_path)).found.notes
    assert "used of 1 files that have several" in note and "a.tif" in note


@pytest.mark.parametrize("ending", "jfif ppm pgm tga jp2 dds PNG".split())
def test_pictures_of_every_ending_are_found_at_any_depth(tmp_path, ending):
    path = tmp_path / "dog" / "puppies" / f"x.{ending}"
    path.parent.mkdir(parents=True)
    kinds = {"jfif": "JPEG", "pgm": "PPM", "ppm": "PPM", "jp2": "JPEG2000"}
    mode = "L" if ending == "pgm" else "RGB"
    Image.new(mode, (8, 8)).save(path, kinds.get(ending, ending.upper()))
    found = find_data(folder(tmp_path)).found
    assert found.train.class_names == ("dog",) and len(found.train) == 1


def test_unlabelled_trees_splits_in_capitals_and_empty_classes(tmp_path):
    for name in ("Train/a/x.png", "Test/a/y.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / name)
    found = find_data(folder(tmp_path)).found
    assert (len(found.train), len(found.test)) == (1, 1)
    tree = tmp_path / "Train"
    (tree / "2024" / "07").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tree / "2024" / "07" / "z.png")
    flat = find_data(folder(tree, unlabelled=True)).found
    assert len(flat.train) == 2 and flat.train.class_names == ()
    (tree / "cat").mkdir()
    (tree / "cat" / "x.heic").touch()
    with pytest.raises(InputError, match=r"class cat .* no pictures .*\.heic"):
        find_data(folder(tree))


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    unused = Unused()
    assert pictures_below(tmp_path, unused) == []
    assert unused.counts == {"link to a folder above it": 1}


@pytest.mark.parametrize("target", ["x", "file/x"], ids=["itself", "through a file"])
def test_links_that_cannot_be_followed_are_no_folders(tmp_path, target):
    Image.new("L", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "file").touch()
    (tmp_path / "x").symlink_to(target)
    unused = Unused()
    assert pictures_below(tmp_path, unused) == [str(tmp_path / "good.png")]
    assert unused.counts["link that cannot be followed"] == 1
    (tmp_path / "x.png").symlink_to(target.replace("x", "x.png"))
    with pytest.raises(InputError, match="x.png cannot be used .*link"):
        find_data(folder(tmp_path))
    config = dataclasses.replace(folder(tmp_path), on_bad_image="skip")
    assert len(find_data(config).found.train) == 1


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(InputError, match="not a regular file"):
        find_data(folder(tmp_path))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE])
def test_faults_of_the_machine_are_no_bad_pictures(tmp_path, monkeypatch, number):
    path = tmp_path / "x.png"
    Image.new("L", (8, 8)).save(path)

    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("byol_bnfree.data.reading.os.open", fail)
    with pytest.raises(Fault) as fault:
        decode(str(path), "x.png", 1)
    stopped = fault.value.stop()
    assert isinstance(stopped, ReadingFailed) and stopped.status == 1
    assert "fault of the machine" in str(stopped)


@pytest.mark.parametrize(
    "error, kind",
    [
        (MemoryError(), Fault),
        (OSError(errno.EIO, "Input/output error"), Fault),
        (OSError("image file is truncated"), BadImage),
    ],
)
def test_a_decoder_blames_the_machine_or_the_picture(monkeypatch, error, kind):
    picture = encode(Image.new("L", (8, 8)))

    def fail(self):
        raise error

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(kind):
        decode(picture, "x.png", 1)


def test_a_tiff_that_pillow_cannot_read_is_called_a_tiff():
    header = b"II*\0\x08\0\0\0" + b"\x04\0"  # 4 tags: size, bits, bands
    tags = [(256, 8), (257, 8), (258, 64), (277, 1)]
    for tag, value in tags:
        header += np.array([tag, 3, 1, 0, value, 0], "<u2").tobytes()
    with pytest.raises(BadImage, match="TIFF: 1 band of 64 bits"):
        read_header(header + bytes(4), "it")


def test_a_folder_without_its_prefix_is_told_the_prefix(tmp_path):
    config = TrainConfig(dataset=str(tmp_path), data_dir=str(tmp_path), steps=1)
    with pytest.raises(InputError, match=f"--dataset=folder:{tmp_path}"):
        find_data(config)


@pytest.mark.parametrize("name", ["folder:{}", "Folder:{}", "file://{}", "{}"])
def test_every_way_to_write_a_folder_is_told_the_right_one(tmp_path, name):
    path = str(tmp_path / "none")
    with pytest.raises(InputError, match=f"folder .?{path}.? does not exist.*folder:"):
        find_data(TrainConfig(dataset=name.format(path)))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("CIFAR-10", "did you mean cifar10"),
        ("pictures", "--dataset=folder:pictures"),
        ("mnist", "byol_bnfree.data prepare mnist"),
    ],
)
def test_a_set_that_is_not_there_is_perhaps_another(
    tmp_path, monkeypatch, name, advice
):
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=advice):
        find_data(TrainConfig(dataset=name, data_dir=str(tmp_path)))


def test_names_that_are_not_text_are_escaped(tmp_path):
    name = os.fsdecode(b"caf\xe9\n")
    assert printable(name) == "caf\\xe9\\n" and printable("é") == "é"
    (tmp_path / name).mkdir()
    Image.new("L", (8, 8)).save(tmp_path / name / f"{name}.png")
    train = find_data(folder(tmp_path)).found.train
    assert train.class_names == ("caf\\xe9\\n",)
    assert train.file_names(np.array([0])) == ["caf\\xe9\\n/caf\\xe9\\n.png"]
