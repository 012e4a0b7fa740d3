"""Prepared sets give masks, depth and boxes; tensorflow-datasets writes the records."""

import io
import json

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from byol_bnfree.data.dense.example import make_example
from byol_bnfree.data.dense.prepared import KINDS, DensePrepared
from byol_bnfree.errors import InputError

IMAGE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def features_of(tfds, name):
    """The features of a set as its builder declares them, in the parts we read."""
    f = tfds.features
    objects = {"bbox": f.BBoxFeature(), "label": f.ClassLabel(names=["cat", "dog"])}
    image = {"image": f.Image(shape=(None, None, 3), encoding_format="png")}
    return {
        "voc/2007": image
        | {"objects": f.Sequence(objects | {"is_difficult": np.bool_})},
        "coco/2017": image | {"objects": f.Sequence(objects | {"is_crowd": np.bool_})},
        "oxford_iiit_pet": image
        | {"segmentation_mask": f.Image(shape=(None, None, 1), encoding_format="png")},
        "nyu_depth_v2": image | {"depth": f.Tensor(shape=(4, 6), dtype=np.float16)},
    }[name]


def png(pixels: np.ndarray) -> bytes:
    """Encode a picture; tensorflow-datasets would need TensorFlow for it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def write(root, name, example):
    """Write one record as tensorflow-datasets does."""
    tfds = pytest.importorskip("tensorflow_datasets")
    features = tfds.features.FeaturesDict(features_of(tfds, name))
    encoded = features.encode_example({"image": png(IMAGE)} | example)
    record = tfds.core.example_serializer.ExampleSerializer(
        features.get_serialized_info()
    ).serialize_example(encoded)
    folder = root / name / "1.0.0"
    folder.mkdir(parents=True)
    splits = KINDS[name.partition("/")[0]].splits[0].split("+")
    for split in splits:
        base = name.partition("/")[0]
        file = folder / f"{base}-{split}.array_record-00000-of-00001"
        writer = ArrayRecordWriter(str(file), "group_size:1")
        writer.write(record)
        writer.close()
    info = {
        "name": name,
        "fileFormat": "array_record",
        "splits": [{"name": s, "shardLengths": ["1"]} for s in splits],
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    features.save_metadata(str(folder))
    return DensePrepared.open(name, "train", None, str(root), 3)


OBJECT = {"bbox": (0.25, 0.5, 1.0, 1.0), "label": 1}


@pytest.mark.parametrize(
    "name, mark, box",
    [
        ("voc/2007", "is_difficult", [0, 2, 4, 6]),  # 1 to 4 and 3 to 6 in its file
        ("coco/2017", "is_crowd", [1, 3, 4, 6]),
    ],
)
def test_boxes_are_in_pixels_with_their_names(tmp_path, name, mark, box):
    tfds = pytest.importorskip("tensorflow_datasets")
    found = {
        "bbox": tfds.features.BBox(*OBJECT["bbox"]),
        "label": OBJECT["label"],
        mark: True,
    }
    source = write(tmp_path, name, {"objects": [found]})
    example = source.example(0)
    np.testing.assert_array_equal(example["image"], IMAGE)
    assert example["boxes"][0].tolist() == box
    assert example["box_class"][:2].tolist() == [1, -1] and example["difficult"][0]
    assert source.box_names == ("cat", "dog") and source.targets == {"boxes"}
    assert len(source) == (2 if name.startswith("voc") else 1)


def test_the_border_of_a_pet_is_ignored(tmp_path):
    trimap = png(np.tile(np.uint8([1, 2, 3]), (4, 2)))
    source = write(tmp_path, "oxford_iiit_pet", {"segmentation_mask": trimap})
    assert source.example(0)["mask"][0].tolist() == [1, 0, 255] * 2
    assert source.class_names == ("background", "pet")


def test_a_turned_picture_keeps_the_frame_of_its_targets(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6  # turn it by 90 degrees
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, "png", exif=exif)
    mask = png(np.ones((4, 6), np.uint8))
    pictures = {"image": buffer.getvalue(), "segmentation_mask": mask}
    example = write(tmp_path, "oxford_iiit_pet", pictures).example(0)
    np.testing.assert_array_equal(example["image"], IMAGE)
    assert example["mask"].shape == (4, 6)


def test_a_mask_of_another_size_is_one_sentence(tmp_path):
    mask = png(np.ones((6, 4), np.uint8))
    source = write(tmp_path, "oxford_iiit_pet", {"segmentation_mask": mask})
    with pytest.raises(InputError, match=r"pet/train/0: .*mask .*\(6, 4\).*\(4, 6\)"):
        source.example(0)


@pytest.mark.parametrize("target, kind", [("mask", np.uint8), ("depth", np.float32)])
def test_a_source_of_ones_own_cannot_give_another_size(target, kind):
    with pytest.raises(InputError, match=f"a {target} has the shape .*one size"):
        make_example(IMAGE, **{target: np.ones((6, 4), kind)})


def test_depth_that_is_no_number_is_unknown(tmp_path):
    depth = np.full((4, 6), 2.5, np.float16)
    depth[0, :2] = np.nan, -1
    source = write(tmp_path, "nyu_depth_v2", {"depth": depth})
    found = source.example(0)["depth"]
    assert found[0].tolist() == [0, 0, 2.5, 2.5, 2.5, 2.5]


def test_a_picture_without_objects_has_padding_only(tmp_path):
    source = write(tmp_path, "voc/2007", {"objects": []})
    assert (source.example(0)["box_class"] == -1).all()


def test_sets_without_known_targets_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match="cifar10 are not known.*oxford_iiit_pet"):
        DensePrepared.open("cifar10", "train", None, str(tmp_path), 3)
    with pytest.raises(InputError, match="data set nyu_depth_v2 is not in"):
        DensePrepared.open("nyu_depth_v2", "train", None, str(tmp_path), 3)


@pytest.mark.parametrize("year", ["2007", "2012"])
def test_the_usual_splits_of_voc_have_boxes(tmp_path, year):
    """The set itself says if its test split is annotated."""
    tfds = pytest.importorskip("tensorflow_datasets")
    (config,) = [c for c in tfds.builder_cls("voc").BUILDER_CONFIGS if c.name == year]
    kind = KINDS.get(f"voc/{year}", KINDS["voc"])
    assert ("test" in kind.splits) == config.has_test_annotations
