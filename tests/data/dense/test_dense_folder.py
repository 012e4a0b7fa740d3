"""Folders of pictures with masks and depths, and their faults."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from byol_bnfree.data.dense.folder import DenseFolder
from byol_bnfree.data.dense.pixel_files import read_mask
from byol_bnfree.errors import InputError


def put(folder, name, pixels):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name)


def make(root, stems="abcd", masks=True, depths=False):
    for index, stem in enumerate(stems):
        put(root / "images", f"{stem}.png", np.full((6, 8, 3), index, np.uint8))
        if masks:
            mask = np.full((6, 8), 255, np.uint8)
            mask[:3] = index % 3
            put(root / "masks", f"{stem}.png", mask)
        if depths:
            put(root / "depths", f"{stem}.png", np.full((6, 8), 1500, np.uint16))
    return str(root)


def test_folders_of_splits_give_their_masks_and_depths(tmp_path):
    make(tmp_path / "train", depths=True)
    make(tmp_path / "test", "xy", depths=True)
    train, test = (DenseFolder.open(str(tmp_path), s, 3) for s in ("train", "test"))
    assert (len(train), len(test)) == (4, 2)
    assert train.targets == {"mask", "depth"}
    assert train.class_names == test.class_names == ("0", "1", "2")
    example = train.example(1)
    assert (example["mask"][:3] == 1).all() and (example["mask"][3:] == 255).all()
    assert (example["depth"] == 1.5).all() and example["image"].shape == (6, 8, 3)
    assert train.file_names(np.array([3])) == ["d.png"]


def test_without_splits_a_tenth_is_the_test_split_and_stays_it(tmp_path):
    names = [f"picture{i}" for i in range(60)]
    make(tmp_path, names)
    train, test = (DenseFolder.open(str(tmp_path), s, 3) for s in ("train", "test"))
    assert len(train) + len(test) == 60 and 1 <= len(test) <= 14
    before = [file.name for file in test.images]
    make(tmp_path, ["another"])
    after = [f.name for f in DenseFolder.open(str(tmp_path), "test", 3).images]
    assert set(before) <= set(after)


def test_a_palette_is_only_for_display_and_names_come_from_a_file(tmp_path):
    root = make(tmp_path / "train")
    image = Image.fromarray(np.ones((6, 8), np.uint8), mode="P")
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.save(tmp_path / "train" / "masks" / "a.png")
    make(tmp_path / "test")
    (tmp_path / "classes.txt").write_text("wall\nred\nblue\n")
    source = DenseFolder.open(str(tmp_path), "train", 3)
    assert source.class_names == ("wall", "red", "blue")
    assert (source.example(0)["mask"] == 1).all() and root


def test_the_number_of_a_line_is_that_of_its_class(tmp_path):
    make(tmp_path / "train")
    names = tmp_path / "classes.txt"
    names.write_text("wall\r\n red\nblue \n\n \n")
    source = DenseFolder.open(str(tmp_path), "train", 3)
    assert source.class_names == ("wall", "red", "blue")
    for text, line in (("\nwall\nred\n", 1), ("wall\n \nred\n", 2)):
        names.write_text(text)
        with pytest.raises(InputError, match=f"has no name in line {line}; .* remove"):
            DenseFolder.open(str(tmp_path), "train", 3)


def test_other_names_of_classes_make_another_set(tmp_path):
    make(tmp_path / "train")
    found = set()
    for names in (None, "wall\nred\n", "wall\nblue\n"):
        if names is not None:
            (tmp_path / "classes.txt").write_text(names)
        found.add(DenseFolder.open(str(tmp_path), "train", 3).fingerprint)
    assert len(found) == 3


def test_the_layout_of_voc_is_read(tmp_path):
    for stem in "ab":
        put(tmp_path / "JPEGImages", f"{stem}.jpg", np.zeros((6, 8, 3), np.uint8))
    put(tmp_path / "SegmentationClass", "b.png", np.full((6, 8), 20, np.uint8))
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("b\n")
    source = DenseFolder.open(str(tmp_path), "test", 3)
    assert len(source) == 1 and len(source.class_names) == 21
    assert (source.example(0)["mask"] == 20).all()
    with pytest.raises(InputError, match="no .*train.txt"):
        DenseFolder.open(str(tmp_path), "train", 3)


def test_a_list_of_voc_may_need_masks_from_elsewhere(tmp_path):
    for stem in "abc":
        put(tmp_path / "JPEGImages", f"{stem}.jpg", np.zeros((6, 8, 3), np.uint8))
        put(tmp_path / "SegmentationClassAug", f"{stem}.png", np.ones((6, 8), np.uint8))
    put(tmp_path / "SegmentationClass", "a.png", np.full((6, 8), 20, np.uint8))
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train_aug.txt").write_text("a\nb\n")
    source = DenseFolder.open(str(tmp_path), "train", 3, part="train_aug")
    assert [source.example(k)["mask"].max() for k in range(2)] == [20, 1]
    with pytest.raises(InputError, match="no .*train_all.txt"):
        DenseFolder.open(str(tmp_path), "train", 3, part="train_all")


def broken(root, fault):
    path = make(root)
    if fault == "missing":
        (root / "masks" / "b.png").unlink()
    if fault == "none":
        return make(root.parent / "bare", masks=False)
    if fault == "size":
        put(root / "masks", "a.png", np.zeros((6, 9), np.uint8))
    if fault == "label":
        (root / "classes.txt").write_text("only\n")
    if fault == "colours":
        put(root / "masks", "a.png", np.zeros((6, 8, 3), np.uint8))
    if fault == "damaged":
        (root / "masks" / "a.png").write_bytes(b"no picture")
    if fault == "16 bits":
        put(root / "masks", "a.png", np.zeros((6, 8), np.uint16))
    if fault in ("jpeg", "jpeg named png"):
        (root / "masks" / "a.png").unlink()
        ending = "jpg" if fault == "jpeg" else "png"
        gray = Image.fromarray(np.zeros((6, 8), np.uint8))
        gray.save(root / "masks" / f"a.{ending}", "JPEG")
    if fault == "jpeg in tiff":
        (root / "masks" / "a.png").unlink()
        gray = Image.fromarray(np.zeros((6, 8), np.uint8))
        gray.save(root / "masks" / "a.tif", compression="jpeg")
    if fault == "two of a name":
        put(root / "images", "a.jpg", np.zeros((6, 8, 3), np.uint8))
    if fault == "one class":
        for stem in "abcd":
            put(root / "masks", f"{stem}.png", np.ones((6, 8), np.uint8))
    if fault in ("binary 255", "binary 254"):
        mask = np.zeros((6, 8), np.uint8)
        mask[:3] = int(fault[-3:])
        for stem in "abcd":
            put(root / "masks", f"{stem}.png", mask)
    if fault == "empty":
        for file in (root / "masks").iterdir():
            file.unlink()
    if fault == "names":
        (root / "classes.txt").write_text("\n".join(map(str, range(256))))
    return path


def use(path, target="mask"):
    """Open and check, as a task does before it trains."""
    source = DenseFolder.open(path, "train", 3)
    source.check(target, np.arange(len(source)))
    return source


@pytest.mark.parametrize(
    "fault, sentence",
    [
        ("missing", "1 of . pictures of .* have no file in masks/ .*b"),
        ("none", "has images/ but no masks/ and no depths/"),
        (
            "size",
            "the mask of .*a.png has 6 x 9 pixels .*, and the picture 6 x 8",
        ),
        ("label", "has the class [12], but there are 1 classes"),
        ("colours", "a.png is not a mask: it has the shape"),
        ("damaged", "a.png cannot be read"),
        ("16 bits", "a.png is not a mask: .* uint16; save one byte per pixel"),
        ("jpeg", "a.jpg is a JPEG, which changes values; save .* PNG"),
        ("jpeg named png", "a.png is a JPEG, which changes values"),
        ("jpeg in tiff", "a.tif is a TIFF with jpeg inside, which changes values"),
        ("two of a name", "images has two files of one name, a.jpg, a.png"),
        ("one class", "all masks of .* show only the class 1"),
        ("binary 255", "only the class 0, and 255, which is ignored.* such as 0 and 1"),
        ("binary 254", "the values 0, 254, so most of the 255 classes .* from 0"),
        ("empty", "no masks/ and no depths/, or they are empty"),
        ("names", "classes.txt names 256 classes; .* at most 255"),
    ],
)
def test_faults_are_one_sentence(tmp_path, fault, sentence, monkeypatch):
    from byol_bnfree.data.dense import folder_layouts

    monkeypatch.setattr(folder_layouts, "_in_test", lambda stem: False)
    path = broken(tmp_path / "set", fault)
    with pytest.raises(InputError, match=sentence):
        use(path)


@pytest.mark.parametrize("how", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_a_tiff_that_keeps_its_values_is_a_mask(tmp_path, how):
    root = tmp_path / "train"
    make(root)
    (root / "masks" / "a.png").unlink()
    gray = Image.fromarray(np.ones((6, 8), np.uint8))
    gray.save(root / "masks" / "a.tif", compression=how)
    assert (use(str(tmp_path)).example(0)["mask"] == 1).all()


@pytest.mark.parametrize(
    "depth, sentence",
    [
        (np.zeros((6, 8), np.uint8), "a.png is not a depth map: it has 8 bits"),
        (np.zeros((6, 8, 3), np.uint8), "a.png is not a depth map: its pixels are RGB"),
        (np.zeros((6, 9), np.uint16), "the depth of .*a.png has 6 x 9 pixels"),
    ],
)
def test_faults_of_depth_are_one_sentence(tmp_path, depth, sentence):
    root = tmp_path / "train"
    make(root, masks=False, depths=True)
    put(root / "depths", "a.png", depth)
    with pytest.raises(InputError, match=sentence):
        use(str(tmp_path), "depth")


def test_depth_that_is_no_number_or_negative_is_unknown(tmp_path):
    make(tmp_path / "train", "a", masks=False)
    values = np.float32([[np.nan, np.inf, -5, 1500]]).repeat(6, 0).repeat(2, 1)
    put(tmp_path / "train" / "depths", "a.tif", values)
    depth = use(str(tmp_path), "depth").example(0)["depth"]
    assert (depth == np.float32([0, 0, 0, 0, 0, 0, 1.5, 1.5])).all()


def test_floats_in_metres_are_not_taken_for_millimetres(tmp_path):
    make(tmp_path / "train", "a", masks=False)
    metres = np.float32([[1, 5, 0, np.inf]]).repeat(6, 0).repeat(2, 1)
    put(tmp_path / "train" / "depths", "a.tif", metres)
    with pytest.raises(InputError, match="at most 5, which would be .* by 1,000"):
        use(str(tmp_path), "depth").example(0)


def test_upper_case_endings_and_names_that_are_no_text_are_read(tmp_path):
    make(tmp_path / "train", "ab")
    for part in ("images", "masks"):
        folder = tmp_path / "train" / part
        (folder / "a.png").rename(folder / "A.PNG")
    (tmp_path / "classes.txt").write_bytes(b"wall\nm\xfcll\nred\n")
    source = use(str(tmp_path))
    assert len(source) == 2 and source.class_names[1] == "m\\xfcll"


def test_hidden_files_and_folders_named_as_pictures_are_left_out(tmp_path):
    make(tmp_path / "train", "ab")
    for part in ("images", "masks"):
        (tmp_path / "train" / part / "._a.png").write_bytes(b"of macOS")
        (tmp_path / "train" / part / "x.png").mkdir()
    assert len(use(str(tmp_path))) == 2


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        DenseFolder.open(str(tmp_path / "no"), "train", 3)
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="has no pictures in images/"):
        DenseFolder.open(str(tmp_path), "train", 3)


def test_a_bad_picture_is_named_without_advice_to_skip_it(tmp_path):
    path = make(tmp_path / "train", depths=True)
    make(tmp_path / "test")
    (tmp_path / "train" / "images" / "a.png").write_bytes(b"no picture")
    source = DenseFolder.open(str(tmp_path), "train", 3)
    with pytest.raises(InputError, match="a.png .*remove it with its targets") as error:
        source.example(0)
    assert "skip" not in str(error.value) and path


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_masks_of_few_bits_keep_their_classes(tmp_path, bits):
    """Written by hand, because Pillow saves gray pictures with 1 or 8 bits only."""
    classes = (np.arange(8) % 2**bits).astype(np.uint8)
    packed = np.packbits(
        np.unpackbits(classes[:, None], axis=1)[:, -bits:].reshape(-1)
    ).tobytes()

    def chunk(kind: bytes, body: bytes) -> bytes:
        length, check = (
            struct.pack(">I", n) for n in (len(body), zlib.crc32(kind + body))
        )
        return length + kind + body + check

    header = struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0)
    file = tmp_path / "mask.png"
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" + packed))
        + chunk(b"IEND", b"")
    )
    assert read_mask(file).tolist() == [classes.tolist()]
