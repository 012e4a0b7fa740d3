"""Pictures in folders: every kind is read, bad ones are named, splits never overlap."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from byol_bnfree.config import DataConfig, EvalConfig, TrainConfig
from byol_bnfree.data.channels import channel_moments
from byol_bnfree.data.check import in_chunks, odd_pictures, smaller_copies
from byol_bnfree.data.decode import decode, read_header
from byol_bnfree.data.eight_bits import Conversion
from byol_bnfree.data.geometry import to_array
from byol_bnfree.data.reading import BadImage
from byol_bnfree.data.sources import find_data, open_source
from byol_bnfree.errors import InputError

PIXELS = np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3) // 2 + 40


def encode(image: Image.Image, fmt: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def write(path: Path, size=(8, 8), value=128) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value,) * 3).save(path)
    return path


def folder(path: Path, **options) -> TrainConfig:
    data = DataConfig(**options.pop("data", {}))
    return TrainConfig(dataset=f"folder:{path}", steps=1, data=data, **options)


def pixels(file: bytes, channels: int = 3) -> np.ndarray:
    return to_array(decode(file, "it", channels)).astype(int)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_every_format_and_mode_decodes(fmt, mode):
    if (fmt, mode) == ("JPEG", "P"):
        pytest.skip("JPEG has no palettes")
    image = Image.fromarray(PIXELS).convert(mode)
    expected = np.asarray(image.convert("RGB"), int)
    assert np.abs(pixels(encode(image, fmt)) - expected).mean() < 12  # lossy formats
    assert pixels(encode(image, fmt), channels=1).shape == (12, 10, 1)


def test_transparency_shows_white():
    clear = encode(Image.new("RGBA", (4, 4), (10, 20, 30, 0)))
    half = encode(Image.new("LA", (4, 4), (0, 128)))
    palette = encode(Image.new("P", (4, 4), 0), transparency=0)
    assert (pixels(clear) == 255).all() and (pixels(palette) == 255).all()
    assert np.abs(pixels(half) - 127).max() <= 1


def test_sixteen_bits_become_eight():
    deep = Image.fromarray(np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16))
    for fmt in ("PNG", "TIFF"):
        assert (pixels(encode(deep, fmt), 1).ravel() == np.arange(256)).all()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_colour_spaces_become_rgb(mode, channels):
    gray = Image.new("RGB", (8, 8), (90, 90, 90))
    image = (
        gray.convert(mode) if mode != "LAB" else Image.new("LAB", (8, 8), (97, 0, 0))
    )
    assert np.abs(pixels(encode(image, "TIFF"), channels) - 90).max() <= 3


@pytest.mark.parametrize("fmt", ["PNG", "WEBP", "TIFF"])  # JPEG and AVIF lose pixels
def test_exif_rotation_is_applied(fmt):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: display rotated by 90 degrees
    options = {"lossless": True} if fmt == "WEBP" else {}
    file = encode(Image.fromarray(PIXELS), fmt, exif=exif, **options)
    assert read_header(file, "it")[:3] == (10, 12, 3)
    np.testing.assert_array_equal(pixels(file), np.rot90(PIXELS, -1))


@pytest.mark.parametrize("value", [0, 5, 8, 9, 65535])
def test_the_header_has_the_size_of_the_pixels_whatever_exif_says(value):
    exif = Image.Exif()
    exif[0x0112] = value
    file = encode(Image.fromarray(PIXELS), exif=exif)
    assert read_header(file, "it")[:2] == pixels(file).shape[:2]


def test_first_frame_of_an_animation_is_used():
    frames = [Image.new("RGB", (4, 4), c) for c in ("blue", "red")]
    for fmt in ("GIF", "WEBP", "TIFF"):
        file = encode(frames[0], fmt, save_all=True, append_images=frames[1:])
        assert pixels(file)[0, 0].argmax() == 2


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"", "empty"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not one of"),
        (encode(Image.fromarray(PIXELS))[:-30], "truncated"),
        (encode(Image.fromarray(PIXELS.astype(np.float32)[..., 0]), "TIFF"), "white"),
        (encode(Image.fromarray(np.full((4, 4), 10**6, np.int32)), "TIFF"), "65,535"),
    ],
)
def test_bad_pictures_say_what_is_wrong(file, reason):
    with pytest.raises(BadImage) as error:
        decode(file, "cat.png", 3)
    assert error.value.name == "cat.png" and reason in error.value.reason


def test_decompression_bomb_is_refused_from_its_header_without_a_warning(recwarn):
    header = bytearray(encode(Image.new("1", (8, 8))))
    header[16:24] = (9_500).to_bytes(4, "big") * 2  # IHDR: 90 million pixels
    header[29:33] = __import__("zlib").crc32(header[12:29]).to_bytes(4, "big")
    limit = Image.MAX_IMAGE_PIXELS
    for read in (lambda f: read_header(f, "bomb"), lambda f: decode(f, "bomb", 3)):
        with pytest.raises(
            BadImage, match="more than 89,478,485.*--data.max-pixels of tr"
        ):
            read(bytes(header))
    assert limit == Image.MAX_IMAGE_PIXELS and not recwarn.list
    allowed = Conversion(max_pixels=10**8)
    assert read_header(bytes(header), "large", allowed).width == 9_500


def test_extreme_shapes_go_through(tmp_path):
    for k, size in enumerate([(1, 1), (30_000, 1), (1, 3000), (7, 5), (50, 90)] * 2):
        write(tmp_path / f"{k}.png", size, value=77)
    source = open_source(folder(tmp_path, data={"image_size": 16}), "train")
    everything = np.arange(len(source))
    assert source.image_shape == (16, 16, 3) and not source.in_memory
    assert (source.images(everything) == 77).all()
    assert (source.crops(everything, everything, 0)["crops"] == 77).all()


def test_classes_are_folders_and_other_files_are_ignored(tmp_path):
    for k in range(20):
        write(tmp_path / "cat" / f"{k}.PNG", value=k)
        write(tmp_path / "dog" / f"{k}.jpeg", value=100)
    (tmp_path / "dog" / "notes.txt").write_text("not a picture")
    (tmp_path / "dog" / ".hidden.png").write_text("not a picture")
    (tmp_path / ".cache").mkdir()
    source = open_source(folder(tmp_path), "train")
    assert source.class_names == ("cat", "dog") and source.num_classes == 2
    assert source.in_memory and source.image_shape == (8, 8, 3)
    cats = source.labels() == 0
    assert source.images(np.flatnonzero(cats)).max() < 20
    assert (source.images(np.flatnonzero(~cats)) == 100).all()


def test_held_out_tenth_is_balanced_fixed_and_never_trained_on(tmp_path):
    for k in range(30):
        for name, count in (("a", 30), ("b", 20)):
            if k < count:
                write(tmp_path / name / f"{k}.png", value=k + 100 * (name == "b"))
    train, test = (open_source(folder(tmp_path), s) for s in ("train", "test"))
    assert (np.bincount(test.labels()) == [3, 2]).all() and len(train) == 45
    values = [{x.max() for x in s.images(np.arange(len(s)))} for s in (train, test)]
    assert not values[0] & values[1]
    a_values = sorted(v for v in values[1] if v < 100)
    assert np.diff(a_values).max() > 1  # neighbouring names are often near copies
    write(tmp_path / "a" / "new.png", value=250)
    later = open_source(folder(tmp_path), "test")
    assert len(values[1] - {x.max() for x in later.images(np.arange(len(later)))}) <= 1


def test_flat_folder_has_no_labels(tmp_path):
    for k in range(20):
        write(tmp_path / f"{k}.png")
    train, test = (open_source(folder(tmp_path), s) for s in ("train", "test"))
    assert (len(train), len(test)) == (20, 2)
    assert train.num_classes is None and train.class_names == ()
    assert (train.labels() == -1).all()


def test_split_folders_are_used_as_named(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        for k in range(count):
            write(tmp_path / split / "cat" / f"{k}.png")
    config = folder(tmp_path, data={"test_split": "val"})
    assert [len(open_source(config, s)) for s in ("train", "test")] == [3, 2]
    own = r"--data.test-split \(--test-split in evaluate\)"
    with pytest.raises(InputError, match=own):
        open_source(folder(tmp_path), "train")
    with pytest.raises(InputError, match="--data.train-split"):
        open_source(folder(tmp_path, data={"train_split": "training"}), "train")
    (tmp_path / "train").rename(tmp_path / "training")  # val is no class beside it
    with pytest.raises(InputError, match="--data.train-split"):
        open_source(folder(tmp_path), "train")


def test_both_splits_have_one_layout(tmp_path):
    for split, size in (("train", (8, 8)), ("test", (9, 8))):
        write(tmp_path / split / "cat" / "0.png", size)
    sources = [open_source(folder(tmp_path), s) for s in ("train", "test")]
    assert [s.image_shape for s in sources] == [(224, 224, 3)] * 2
    assert not any(s.in_memory for s in sources)


def test_grayscale_pictures_have_one_channel_unless_asked(tmp_path):
    for k in range(2):
        Image.new("L", (6, 6), 50).save(tmp_path / f"{k}.png")
    assert open_source(folder(tmp_path), "train").image_shape == (6, 6, 1)
    wide = open_source(folder(tmp_path, data={"channels": 3}), "train")
    assert wide.images(np.arange(2)).shape == (2, 6, 6, 3)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no pictures"),
        (["readme.txt"], "holds no pictures"),
        (["a.png", "cat/b.png"], "both pictures and folders"),
        (["train/cat/a.png", "test/dog/b.png"], "dog"),
        (["train/cat/a.png", "test/b.png"], "without a class"),
        (["cat/a.png"], "no usable picture.*at least two.*--evaluation.skip"),
    ],
)
def test_folders_that_cannot_work_are_one_sentence(tmp_path, files, message):
    for name in files:
        write(tmp_path / name) if name.endswith("png") else (tmp_path / name).touch()
    with pytest.raises(InputError, match=message):
        open_source(folder(tmp_path), "test")


def test_missing_folder_is_one_sentence():
    for path in ("/nowhere/at/all", ""):
        with pytest.raises(InputError, match="does not exist"):
            open_source(folder(path), "train")


@pytest.mark.parametrize("in_memory", [True, False])
def test_bad_picture_stops_with_its_name_and_the_way_out(tmp_path, in_memory):
    for k in range(4):
        write(tmp_path / f"{k}.png", (64, 64))
    whole = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(whole[:-40])  # its header is intact
    config = folder(tmp_path, data={"in_memory_gib": 1.0 if in_memory else 1e-9})
    with pytest.raises(InputError, match=r"2\.png.*--on-bad-image=skip"):
        open_source(config, "train").images(np.arange(4))


@pytest.mark.parametrize("in_memory", [True, False])
def test_skipped_pictures_are_recorded_and_labels_stay_right(tmp_path, in_memory):
    for k in range(12):
        write(tmp_path / "train" / str(k // 6) / f"{k:02}.png", (64, 64), value=k)
        write(tmp_path / "test" / "0" / f"{k:02}.png", (64, 64))
    (tmp_path / "train" / "0" / "03.png").write_bytes(b"junk")  # found by its header
    cut = tmp_path / "train" / "0" / "05.png"  # found when it is decoded
    cut.write_bytes(cut.read_bytes()[:-40])
    config = folder(
        tmp_path,
        on_bad_image="skip",
        data={"in_memory_gib": 1.0 if in_memory else 1e-9},
    )
    source = open_source(config, "train")
    usable = source.usable(np.arange(len(source)))
    values = [int(x.max()) for x in source.images(usable)]
    assert values == [0, 1, 2, 4, 6, 7, 8, 9, 10, 11]
    assert [v // 6 for v in values] == source.labels()[usable].tolist()
    assert [Path(name).name for name in source.skipped] == ["03.png", "05.png"]
    assert "truncated" in list(source.skipped.values())[1]


def test_in_training_the_next_good_picture_stands_in_for_a_bad_one(tmp_path):
    for k in range(6):
        write(tmp_path / "train" / str(k // 3) / f"{k}.png", (64, 64), value=10 * k)
    cut = next(tmp_path.rglob("2.png"))
    cut.write_bytes(cut.read_bytes()[:-40])
    config = folder(
        tmp_path,
        on_bad_image="skip",
        data={"in_memory_gib": 1e-9},
        evaluation=EvalConfig(skip=True),
    )
    source = open_source(config, "train")
    met = []
    source.pictures.on_skip = lambda index, bad: met.append(
        (index, Path(bad.name).name)
    )
    everything = np.arange(6)

    def values(source):
        return source.crops(everything, everything, 0)["crops"].max((1, 2, 3, 4)) // 10

    assert values(source).tolist() == [0, 1, 3, 3, 4, 5] and met == [(2, "2.png")]
    assert source.labels(everything).tolist() == [0, 0, 1, 1, 1, 1]
    with pytest.raises(InputError, match=r"2\.png"):  # evaluation counts none twice
        source.images(everything)
    again = open_source(config, "train")  # a resumed run does not try it again
    again.pictures.leave_out(source.pictures.bad)
    cut.unlink()
    assert (values(again) == values(source)).all()


def test_stream_of_bad_pictures_only_ends(tmp_path):
    for k in range(3):
        file = write(tmp_path / f"{k}.png", (64, 64))
        file.write_bytes(file.read_bytes()[:-40])
    config = folder(tmp_path, on_bad_image="skip", data={"in_memory_gib": 1e-9})
    some = np.arange(3)
    for use in ("usable", "crops"):
        source = open_source(config, "train")
        arguments = (some, some, 0) if use == "crops" else (some,)
        with pytest.raises(InputError, match="no picture of"):
            getattr(source, use)(*arguments)


def test_few_pictures_of_another_size_are_counted(tmp_path):
    for k in range(5):
        write(tmp_path / f"{k}.png", (32, 32))
    write(tmp_path / "other.png", (33, 32))
    why = find_data(folder(tmp_path)).found.why
    assert "sizes differ (5 are 32 x 32 pixels; see --data.image-size)" in why


def test_crops_larger_than_the_memory_are_refused_before_any_is_made(tmp_path):
    write(tmp_path / "a.png", (32, 32))
    write(tmp_path / "b.png", (33, 32))  # so that the set streams
    data = {"image_size": 2_000_000, "channels": 3}
    with pytest.raises(InputError, match="2 crops of 2000000 .*--data.image-size"):
        open_source(folder(tmp_path, data=data), "train")


def test_large_pictures_are_looked_at_in_small_parts(tmp_path, monkeypatch):
    """All 256 at once would need gigabytes."""
    for k in range(5):
        Image.fromarray(PIXELS[:10] + k).save(tmp_path / f"{k}.png")
    source = open_source(folder(tmp_path), "train")
    whole = odd_pictures(source), channel_moments(source)
    size = PIXELS[:10].size
    parts = in_chunks(source, np.arange(5), 2 * size)
    assert [len(part) for part in parts] == [2, 2, 1]
    assert [len(part) for part in in_chunks(source, np.arange(2), 1)] == [1, 1]
    monkeypatch.setattr(in_chunks, "__defaults__", (2 * size,))
    again = odd_pictures(source), channel_moments(source)
    assert again == whole and not whole[0]


def test_without_a_good_picture_to_measure_channels_are_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr("byol_bnfree.data.channels.SAMPLE", 1)
    for k in range(3):
        write(tmp_path / f"{k}.png", (64, 64), value=k)
    cut = tmp_path / "0.png"
    cut.write_bytes(cut.read_bytes()[:-40])  # its header is intact
    config = folder(tmp_path, on_bad_image="skip", data={"in_memory_gib": 1e-9})
    with pytest.raises(InputError, match="0.png.*--augment.mean"):
        channel_moments(open_source(config, "train"))


def test_of_a_large_folder_a_fixed_sample_decides(tmp_path, monkeypatch):
    """And pictures beyond it that are of another size are counted."""
    monkeypatch.setattr("byol_bnfree.data.scan.SCAN_LIMIT", 30)
    for k in range(40):
        Image.new("L", (8, 8), k).save(tmp_path / f"{k:02}.png")
    found = find_data(folder(tmp_path))
    assert found.open("train").image_shape == (8, 8, 1)
    sample = "30 of 40 pictures, a fixed sample, are 8 x 8 pixels, grayscale"
    assert found.found.why == sample
    unseen = next(k for k in range(40) if _shape_without(tmp_path, k) == (8, 8, 1))
    source = find_data(folder(tmp_path)).open("train")
    assert source.image_shape == (8, 8, 1) and source.resized == 1
    assert "1 pictures of another size" in "".join(odd_pictures(source)), unseen


@pytest.mark.parametrize(
    "shape, options, note",
    [
        ((12, 12), {"image_size": 8}, "pictures of 12x12 are held in memory at 8x8"),
        ((12, 8), {}, "pictures of 12x8 are held in memory at 8x8, and views"),
        ((12, 12), {}, None),
        ((12, 12), {"image_size": 16}, None),
        ((12, 12), {"image_size": 8, "in_memory_gib": 0}, None),
    ],
)
def test_views_of_smaller_copies_are_said(shape, options, note, tmp_path):
    for k in range(6):
        noise = np.random.default_rng(k).integers(0, 256, (*shape, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{k}.png")
    config = folder(tmp_path, data=options, evaluation=EvalConfig(skip=True))
    source = find_data(config).open("train")
    notes = " ".join(smaller_copies(source))
    assert notes.startswith(note) if note else not notes
    assert source.in_memory == (options.get("in_memory_gib") != 0)


def _shape_without(root: Path, k: int) -> tuple[int, ...]:
    """The input where picture k is larger; picture k stays so if it was not seen."""
    path = root / f"{k:02}.png"
    Image.new("L", (9, 8), k).save(path)
    shape = open_source(folder(root), "train").image_shape
    if shape != (8, 8, 1):
        Image.new("L", (8, 8), k).save(path)
    return shape
