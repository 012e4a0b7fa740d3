"""Every kind of data set looks the same to the rest: one Source."""

import dataclasses
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from byol_bnfree.config import (
    AugmentConfig,
    DataConfig,
    TrainConfig,
    ViewConfig,
    ViewsConfig,
)
from byol_bnfree.data.crops import crop_box, random_crops
from byol_bnfree.data.geometry import centre_crop
from byol_bnfree.data.records import Layout
from byol_bnfree.data.shapes import CLASS_NAMES
from byol_bnfree.data.sources import (
    Source,
    Streaming,
    _crop_bytes,
    find_data,
    open_source,
)
from byol_bnfree.errors import InputError

TFDS = Path(__file__).parents[2] / "../shared/tfds"
needs_tfds = pytest.mark.skipif(not TFDS.is_dir(), reason="prepared data sets absent")
SOME = np.arange(20)


def tfds_config(name="cifar10", **data) -> TrainConfig:
    data = {"train_split": "train[:60]", "test_split": "test[:30]"} | data
    return TrainConfig(
        dataset=name, data_dir=str(TFDS), steps=1, data=DataConfig(**data)
    )


def shapes_config(**data) -> TrainConfig:
    return TrainConfig(steps=1, data=DataConfig(**data))


def picture(width=40, height=30) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    )


def test_shapes_are_a_source_of_the_sizes_asked_for():
    config = shapes_config(shapes_train=30, shapes_test=20, image_size=16, channels=1)
    train, test = (open_source(config, split) for split in ("train", "test"))
    assert isinstance(train, Source) and train.in_memory and train.name == "shapes"
    assert (len(train), len(test), train.num_classes) == (30, 20, 10)
    assert train.image_shape == (16, 16, 1) and train.class_names == CLASS_NAMES
    assert train.images(SOME).shape == (20, 16, 16, 1)


def test_shapes_have_no_other_splits():
    with pytest.raises(InputError, match="--data.shapes-train"):
        open_source(shapes_config(train_split="train[:10]"), "train")


def test_shapes_need_no_tensorflow_datasets():
    program = """
import sys
from byol_bnfree.config import DataConfig, TrainConfig
from byol_bnfree.data.sources import open_source
open_source(TrainConfig(steps=1, data=DataConfig(shapes_train=10)), "train")
sys.exit("tensorflow_datasets" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@needs_tfds
def test_prepared_set_is_decoded_as_tfds_decodes_it():
    import tensorflow_datasets as tfds

    source = open_source(tfds_config(), "train")
    reference = tfds.data_source(
        "cifar10", split="train", data_dir=TFDS, download=False
    )
    assert len(source) == 60 and source.in_memory and source.num_classes == 10
    assert source.class_names[3] == "cat"
    np.testing.assert_array_equal(source.images(SOME)[7], reference[7]["image"])
    expected = [reference[i]["label"] for i in range(20)]
    np.testing.assert_array_equal(source.labels(SOME), expected)
    assert "tensorflow" not in sys.modules


@needs_tfds
def test_channels_and_size_are_converted_as_asked():
    assert open_source(tfds_config("fashion_mnist"), "test").image_shape == (28, 28, 1)
    gray = open_source(tfds_config(channels=1, image_size=24), "test")
    assert gray.images(SOME).shape == (20, 24, 24, 1)
    rgb = open_source(tfds_config("fashion_mnist", channels=3), "test").images(SOME)
    assert (rgb[..., 0] == rgb[..., 2]).all()


@needs_tfds
def test_streaming_gives_what_memory_gives():
    held = open_source(tfds_config(), "train")
    stream = open_source(tfds_config(in_memory_gib=1e-9), "train")
    assert isinstance(stream, Streaming) and not stream.in_memory
    assert stream.image_shape == held.image_shape and len(stream) == len(held)
    np.testing.assert_array_equal(stream.labels(SOME[::-1]), held.labels(SOME[::-1]))
    np.testing.assert_array_equal(stream.labels(), held.labels())
    np.testing.assert_array_equal(stream.images(SOME), held.images(SOME))


@needs_tfds
@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("train", "validation"), "train, test"),
        (("train[", "test"), "train, test"),
        (("train", "train[90%:]"), "share images"),
        (("train[:0]", "test"), "is empty"),
    ],
)
def test_splits_that_cannot_be_are_one_sentence(splits, message):
    config = tfds_config(train_split=splits[0], test_split=splits[1])
    with pytest.raises(InputError, match=message):
        open_source(config, "train")


def test_crop_sides_follow_area_and_aspect():
    view = ViewConfig(crop_area=(0.25, 0.25), crop_aspect=(2.0, 2.0))
    box = crop_box(np.random.default_rng(0), 200, 200, view)
    assert (box[2] - box[0], box[3] - box[1]) == (141, 71)  # sqrt(A r), sqrt(A / r)


def test_crops_stay_inside_and_cover_the_areas_asked_for():
    rng, view = np.random.default_rng(0), ViewConfig()
    boxes = np.array([crop_box(rng, 30, 30, view) for _ in range(2000)])
    left, top, right, bottom = boxes.T
    assert left.min() == top.min() == 0 and right.max() == bottom.max() == 30
    area = (right - left) * (bottom - top) / 900
    assert 0.06 < area.min() < 0.1 and area.max() == 1
    assert abs(area.mean() - 0.52) < 0.03  # a little under (0.08 + 1) / 2: clipping


def test_every_offset_of_a_crop_is_equally_likely():
    view = ViewConfig(crop_area=(0.25, 0.25), crop_aspect=(1.0, 1.0))
    rng = np.random.default_rng(0)
    boxes = np.array([crop_box(rng, 8, 8, view) for _ in range(1000)])
    for offset in boxes.T[:2]:
        assert (np.abs(np.bincount(offset, minlength=5) - 200) < 50).all()


def test_crop_of_everything_is_the_picture():
    whole = ViewConfig(crop_area=(1.0, 1.0), crop_aspect=(1.0, 1.0))
    image = picture(16, 16)
    crops = random_crops(image, (16, 16), [whole, whole], (0,))
    np.testing.assert_array_equal(crops, np.stack([np.asarray(image)] * 2))


def test_evaluation_takes_the_central_seven_eighths():
    image = picture(320, 256)
    expected = image.crop((48, 16, 272, 240))
    np.testing.assert_array_equal(centre_crop(image, (224, 224), 224 / 256), expected)


@pytest.mark.parametrize(
    "size, box",
    [
        ((300, 375), (19, 57, 281, 319)),  # odd differences: the larger half before
        ((375, 300), (57, 19, 319, 281)),
        ((20, 16), (3, 1, 17, 15)),  # no larger than the network's input: the same
        ((224, 224), (14, 14, 210, 210)),
        ((1, 1), (0, 0, 1, 1)),
    ],
)
def test_the_evaluation_crop_starts_where_deepminds_does(size, box):
    """offset = (height - side + 1) // 2, side = int(224 / 256 min(height, width))."""
    image = picture(*size)
    expected = image.crop(box).resize((224, 224), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(centre_crop(image, (224, 224), 224 / 256), expected)


def test_a_square_of_everything_keeps_a_picture_of_the_right_size():
    image = picture(16, 16)
    assert centre_crop(image, (16, 16), share=1.0) is image


@pytest.mark.parametrize("mixed", [False, True])
def test_a_stream_is_evaluated_whole_only_if_all_its_pictures_fit(tmp_path, mixed):
    picture(16, 16).save(tmp_path / "0.png")
    picture(20 if mixed else 16, 16).save(tmp_path / "1.png")
    data = DataConfig(image_size=16, in_memory_gib=1e-9)
    config = TrainConfig(dataset=f"folder:{tmp_path}", steps=1, data=data)
    first = open_source(config, "train").images(np.array([0]))[0]
    expected = centre_crop(picture(16, 16), (16, 16), 224 / 256 if mixed else 1.0)
    np.testing.assert_array_equal(first, np.asarray(expected))


@pytest.fixture
def stream_config(tmp_path):
    for k in range(6):
        picture(20 + k, 15).save(tmp_path / f"{k}.png")
    data = DataConfig(image_size=8)
    return TrainConfig(dataset=f"folder:{tmp_path}", steps=1, data=data)


def test_crops_depend_on_seed_step_and_position_only(stream_config):
    source, again = (open_source(stream_config, "train") for _ in range(2))
    indices, positions = np.array([4, 1, 2]), np.array([0, 1, 2])
    crops = source.crops(indices, positions, 5)["crops"]
    assert crops.shape == (3, 2, 8, 8, 3) and crops.dtype == np.uint8
    alone = again.crops(indices[1:2], positions[1:2], 5)["crops"]
    np.testing.assert_array_equal(crops[1:2], alone)
    for other in (
        source.crops(indices, positions + 1, 5)["crops"],
        source.crops(indices, positions, 6)["crops"],
    ):
        assert (crops != other).any((1, 2, 3, 4)).all()
    assert (crops[:, 0] != crops[:, 1]).any((1, 2, 3)).all()


def test_a_crop_has_the_settings_of_its_view(stream_config):
    """One crop is the first of two, and the first has the settings of view 1."""
    indices = positions = np.arange(3)
    tiny = ViewConfig(crop_area=(0.05, 0.1))
    unlike, alike = (
        open_source(dataclasses.replace(stream_config, augment=augment), "train")
        for augment in (AugmentConfig(view1=tiny), AugmentConfig(tiny, tiny))
    )
    one, two = (unlike.crops(indices, positions, 5, n)["crops"] for n in (1, 2))
    np.testing.assert_array_equal(one, two[:, :1])
    both = alike.crops(indices, positions, 5)["crops"]
    np.testing.assert_array_equal(both[:, 0], two[:, 0])
    assert (both[:, 1] != two[:, 1]).any((1, 2, 3)).all()


def test_a_closed_source_has_no_threads_and_reads_on_with_new_ones(stream_config):
    source, before = open_source(stream_config, "train"), threading.active_count()
    first = source.images(SOME[:3])
    assert threading.active_count() > before
    source.close()
    source.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before  # others may have ended too
    np.testing.assert_array_equal(source.images(SOME[:3]), first)


@pytest.mark.slow
def test_worker_processes_end_with_a_killed_main_process():
    """They hold its standard output, so they are gone when that can be read."""
    script = (
        "import os, signal; from byol_bnfree.data.workers import reading_pool\n"
        "print(*reading_pool(1).map(abs, [-7]), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "7\n")


def test_worker_processes_change_nothing(stream_config):
    data = dataclasses.replace(stream_config.data, workers=1)
    config = dataclasses.replace(stream_config, data=data)
    thread, process = (open_source(c, "train") for c in (stream_config, config))
    expected = thread.crops(SOME[:3], SOME[:3], 0)["crops"]
    np.testing.assert_array_equal(
        process.crops(SOME[:3], SOME[:3], 0)["crops"], expected
    )


def test_more_crops_and_small_ones_leave_the_first_two(stream_config):
    def crops(settings, **count):
        config = dataclasses.replace(stream_config, views=settings)
        source = open_source(config, "train")
        return source.crops(np.arange(2), np.arange(2), 5, **count)

    plain, several = crops(ViewsConfig()), ViewsConfig(count=3, small=2, small_size=6)
    found = crops(several)
    assert plain.keys() == {"crops"}
    assert found["crops"].shape == (2, 3, 8, 8, 3)
    assert found["small_crops"].shape == (2, 2, 6, 6, 3)
    np.testing.assert_array_equal(found["crops"][:, :2], plain["crops"])
    assert crops(several, views=1).keys() == {"crops"}


@pytest.mark.parametrize("small", [0, 2])
@pytest.mark.parametrize("views", [None, 1])
def test_own_views_get_each_whole_picture_of_a_stream_once(stream_config, small, views):
    own = AugmentConfig(function="mine.py:views")
    config = dataclasses.replace(
        stream_config, augment=own, views=ViewsConfig(small=small)
    )
    source, some = open_source(config, "train"), np.arange(6)
    assert not source.in_memory
    folder = Path(config.dataset.removeprefix("folder:"))
    images = [Image.open(folder / name) for name in source.file_names(some)]
    batch = source.crops(some, some, 5, views)
    assert batch.keys() == {"image"}
    whole = [np.asarray(centre_crop(i, (8, 8), 1.0)) for i in images]
    np.testing.assert_array_equal(batch["image"], np.stack(whole))


def test_an_evaluation_without_own_views_gets_crops_of_a_stream(stream_config):
    plain, some = stream_config.augment, np.arange(6)
    own = dataclasses.replace(plain, function="mine.py:views")
    config = dataclasses.replace(stream_config, augment=own)
    found, expected = (
        open_source(c, "train").crops(some, some, 5, views=1, augment=plain)["crops"]
        for c in (config, stream_config)
    )
    np.testing.assert_array_equal(found, expected)


def test_the_memory_of_small_crops_is_counted_too(stream_config):
    layout = Layout((8, 6), 3, in_memory=False)
    several = dataclasses.replace(
        stream_config, views=ViewsConfig(count=3, small=2, small_size=4)
    )
    assert list(_crop_bytes(layout, several).values()) == [3 * 8 * 6 * 3, 2 * 4 * 4 * 3]
    own = AugmentConfig(function="mine.py:views")
    own_views = dataclasses.replace(several, augment=own)
    assert list(_crop_bytes(layout, own_views).values()) == [8 * 6 * 3]


@pytest.mark.parametrize("name", ["shapes", "digits"])
def test_unlabelled_is_refused_where_it_would_be_ignored(name):
    config = TrainConfig(dataset=name, steps=1, data=DataConfig(unlabelled=True))
    with pytest.raises(InputError, match=f"--data.unlabelled .* not to {name}"):
        find_data(config)
