"""The data of a dense task: its windows, and what is refused before any work."""

import contextlib
import dataclasses

import jaxtyping
import numpy as np
import pytest
from PIL import Image

from byol_bnfree.config import AugmentConfig, DataConfig, TrainConfig
from byol_bnfree.data.dense.folder import DenseFolder
from byol_bnfree.data.dense.prepared import KINDS, DensePrepared
from byol_bnfree.data.dense.shapes import Scenes
from byol_bnfree.data.set_files import Span
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.checks import check_protocols
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.dense.evaluation import dense_evaluation
from byol_bnfree.evaluation.dense.opening import (
    _check_disjoint,
    _part,
    _usual_size,
    cut_off,
    dense_views,
    open_dense,
    unused_files,
)
from byol_bnfree.evaluation.dense.settings import DepthSettings, SegmentationSettings
from byol_bnfree.evaluation.dense.tasks import TASKS
from byol_bnfree.evaluation.dense.usable import _check_source
from tiny import light

OF = {"segmentation": SegmentationSettings(), "depth": DepthSettings()}
RUN = TrainConfig(norm="bn", data=DataConfig(shapes_train=20, shapes_test=10))


def folder_of(path, *, masks=True, size=(12, 12), label=1):
    (path / "images").mkdir(parents=True)
    if masks:
        (path / "masks").mkdir()
    for number in range(30):
        pixels = np.full((12, 12, 3), 8 * number, np.uint8)
        Image.fromarray(pixels).save(path / "images" / f"{number}.png")
        if masks:
            mask = np.zeros(size, np.uint8)
            mask[:4] = label
            Image.fromarray(mask).save(path / "masks" / f"{number}.png")
    return path


def open_dense_folder(path):
    return DenseFolder.open(str(path), "train", 3)


def opened(dataset, task="segmentation", settings=None, **fields):
    config = EvaluateConfig("w", (task,), dataset=dataset, **fields)
    return open_dense(TASKS[task], settings or getattr(config, task), RUN, config)


def test_the_papers_windows_are_the_defaults_and_scenes_have_their_own(tmp_path):
    folder = folder_of(tmp_path / "set")
    train, test = opened(f"folder:{folder}")
    assert train.windows.size == (513, 513) and train.windows.scales == (0.5, 2.0)
    assert len(train) + len(test) == 30 and train.class_names == ("0", "1")
    scenes, _ = opened("shapes", "depth", max_train=5)
    assert scenes.windows.size == (64, 64) and len(scenes) == 5
    assert scenes.windows.depth_by_scale and scenes.windows.test_scale == 1
    halved, _ = opened("shapes", "depth", DepthSettings(resize=0.5))
    assert halved.windows.test_scale == 0.5


def test_the_defaults_are_the_papers():
    segmentation, depth = SegmentationSettings(), DepthSettings()
    found = segmentation.steps, segmentation.batch_size, segmentation.weight_decay
    assert found == (30_000, 16, 1e-4) and len(segmentation.rates) == 5
    assert (depth.steps, depth.batch_size, depth.rates) == (7_500, 256, (0.16,))
    assert depth.weight_decay == 5e-4 and segmentation.stride == 16


def test_a_mask_without_any_class_is_one_sentence(tmp_path):
    folder = folder_of(tmp_path / "set", label=255)
    (folder / "classes.txt").write_text("a\nb\n")
    for file in (folder / "masks").iterdir():
        Image.fromarray(np.full((12, 12), 255, np.uint8)).save(file)
    with pytest.raises(InputError, match="have no pixel with a class"):
        opened(f"folder:{folder}")


def test_a_class_that_only_test_masks_show_is_refused(tmp_path, capsys):
    """Its IoU would be 0 whatever is learned."""
    folder = folder_of(tmp_path / "set")
    test = DenseFolder.open(str(folder), "test", 3)
    for file in test.masks.values():
        Image.fromarray(np.full((12, 12), 2, np.uint8)).save(file)
    with pytest.raises(InputError, match="no training mask of set shows the class 2,"):
        opened(f"folder:{folder}")
    opened(f"folder:{folder}", max_train=20)
    assert "note: 1 classes of the test masks" in capsys.readouterr().out


def test_a_mask_without_a_picture_gives_no_class(tmp_path):
    folder = folder_of(tmp_path / "set")
    Image.fromarray(np.full((12, 12), 9, np.uint8)).save(folder / "masks" / "x.png")
    Image.new("RGB", (12, 12)).save(folder / "masks" / "overview.png")
    train, test = opened(f"folder:{folder}")
    assert train.class_names == ("0", "1")
    assert "in masks/ without a picture" in unused_files((train, test))[0]


def test_more_classes_than_a_mask_can_tell_apart_are_refused():
    many = Scenes("train", 4, 16, class_names=tuple(map(str, range(300))))
    task, settings = TASKS["segmentation"], SegmentationSettings()
    with pytest.raises(InputError, match="300 classes of masks, but at most 255 are"):
        dense_views(task, many, many, settings, AugmentConfig())


def test_what_the_window_leaves_out_is_said():
    def said(task, size):
        _, test = opened("shapes", task, dataclasses.replace(OF[task], size=size))
        return cut_off(TASKS[task], test)

    assert said("segmentation", (64, 64)) == said("depth", (60, 60)) == []
    (sentence,) = said("segmentation", (32, 64))
    assert "window of 32 x 64 pixels shows 50% of the first test" in sentence
    assert "give a larger --segmentation.size" in sentence


def test_the_window_of_coco_holds_a_whole_picture():
    assert _usual_size(TASKS["detection"], "coco/2017") == (640, 640)
    assert _usual_size(TASKS["detection"], "voc/2007") == (512, 512)


def test_files_that_are_not_used_are_said(tmp_path):
    folder = folder_of(tmp_path / "set")
    assert unused_files(opened(f"folder:{folder}")) == []
    (folder / "images" / "more").mkdir()
    for name in ("images/more/0.png", "images/a.gif", "masks/alone.png"):
        (folder / name).write_bytes((folder / "masks" / "0.png").read_bytes())
    (said,) = unused_files(opened(f"folder:{folder}"))
    assert "3 files not used" in said
    for part in ("in a subfolder (images/more/0.png)", ".gif (images/a.gif)"):
        assert part in said
    assert "in masks/ without a picture (masks/alone.png)" in said


@pytest.mark.parametrize("part", ["masks", "depths"])
def test_a_target_that_is_stored_turned_is_one_sentence(tmp_path, part):
    folder = folder_of(tmp_path / "set")
    (folder / "classes.txt").write_text("a\nb\n")
    if part == "depths":
        (folder / "masks").rename(folder / "depths")
    turned = Image.Exif()
    turned[0x112] = 3
    pixels = {"masks": np.eye(12, dtype=np.uint8), "depths": np.eye(12) * 1000}[part]
    kind = np.uint16 if part == "depths" else np.uint8
    for file in (folder / part).iterdir():
        Image.fromarray(pixels.astype(kind)).save(file, exif=turned)
    task = "depth" if part == "depths" else "segmentation"
    with pytest.raises(InputError, match="stored turned .EXIF orientation 3., but"):
        opened(f"folder:{folder}", task)


def test_a_fault_in_the_last_file_is_found_before_the_training(tmp_path):
    folder = folder_of(tmp_path / "set")
    (folder / "classes.txt").write_text("a\nb\n")
    last = open_dense_folder(folder).images[-1]
    Image.fromarray(np.full((12, 12), 7, np.uint8)).save(folder / "masks" / last.name)
    with pytest.raises(InputError, match="has the class 7, but there are 2 classes"):
        opened(f"folder:{folder}")
    kept = opened(f"folder:{folder}", max_train=2, seed=1)[0]
    assert len(kept) == 2


def test_depth_that_is_all_unknown_is_one_sentence(tmp_path):
    folder = folder_of(tmp_path / "set", masks=False)
    (folder / "depths").mkdir()
    for file in (folder / "images").iterdir():
        zeros = np.zeros((12, 12), np.uint16)
        Image.fromarray(zeros).save(folder / "depths" / file.name)
    with pytest.raises(InputError, match="have no pixel of known depth"):
        opened(f"folder:{folder}", "depth")


def test_data_without_the_target_is_one_sentence(tmp_path):
    bare = folder_of(tmp_path / "bare", masks=False)
    other = folder_of(tmp_path / "other", size=(10, 12))
    masks = folder_of(tmp_path / "masks")
    for dataset, task, sentence in (
        (f"folder:{bare}", "segmentation", "no masks/ and no depths/"),
        (
            f"folder:{other}",
            "segmentation",
            "has 10 x 12 pixels .*, and the picture 12 x 12",
        ),
        (f"folder:{masks}", "depth", "has no depth for --protocol depth"),
        ("cifar10", "segmentation", "targets of cifar10 are not known for dense"),
    ):
        with pytest.raises(InputError, match=sentence):
            opened(dataset, task)


def test_a_set_that_is_too_small_for_two_splits_is_one_sentence(tmp_path):
    folder = folder_of(tmp_path / "set")
    for part in ("images", "masks"):
        for file in (folder / part).iterdir():
            if file.stem not in "01":
                file.unlink()
    with pytest.raises(InputError, match="split of set is empty; add pictures, or"):
        opened(f"folder:{folder}")


def test_a_batch_that_cannot_be_cut_is_refused():
    config = EvaluateConfig("w", ("depth",), depth=DepthSettings(batch_size=5))
    with pytest.raises(InputError, match="depth.batch-size 5 cannot be split"):
        check_protocols(config, config.protocol, RUN, light(), devices=2)


def test_groups_of_batchnorm_divide_a_batch_only_where_it_takes_statistics():
    run = TrainConfig(norm="bn", bn_stat_groups=8)
    depth = DepthSettings(batch_size=2, head="linear")
    for fields, refused in (
        ({}, True),
        ({"encoder": "frozen"}, False),
        ({"norms": "inference"}, False),
        ({"encoder": "frozen", "head": "paper"}, True),
    ):
        settings = dataclasses.replace(depth, **fields)
        config = EvaluateConfig("w", ("depth",), depth=settings)
        with pytest.raises(InputError) if refused else contextlib.nullcontext():
            check_protocols(config, config.protocol, run, light(), devices=1)


@pytest.mark.parametrize(
    "fields", [{"steps": 0}, {"rates": ()}, {"rates": (-1.0,)}, {"size": (0, 0)}]
)
def test_impossible_settings_are_refused_in_your_own_code_too(fields):
    scenes = Scenes("train", 20, 64), Scenes("test", 20, 64)
    settings = SegmentationSettings(**fields)
    (name,) = fields
    with pytest.raises(InputError, match=f"--segmentation.{name} .*(positive|empty)"):
        dense_views(TASKS["segmentation"], *scenes, settings, AugmentConfig())


@pytest.mark.parametrize(
    "fields",
    [
        *({"encoder": "fine-tuned"}, {"norms": "eval"}, {"head": "fcn"}),
        *({"steps": 2.5}, {"batch_size": 1.5}, {"kernel_lengths": "reset"}),
        *({"scales": 1.0}, {"scales": ("a", 1.0)}, {"scales": (1.0,)}),
    ],
    ids=str,
)
@pytest.mark.parametrize("view", [True, False])
def test_wrong_words_and_types_are_refused_in_your_own_code_too(
    fields, view, monkeypatch
):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for users
    scenes = Scenes("train", 20, 64), Scenes("test", 20, 64)
    task, settings = TASKS["segmentation"], SegmentationSettings(**fields)
    (name,) = fields
    flag = f"--segmentation.{name.replace('_', '-')} is .*; it must be "
    with pytest.raises(InputError, match=flag):
        if view:
            dense_views(task, *scenes, settings, AugmentConfig())
        else:
            dense_evaluation(task, None, *scenes, settings)


def test_scales_in_the_wrong_order_are_refused():
    with pytest.raises(InputError, match="scales of a dense task are 2 0.5"):
        SegmentationSettings(scales=(2.0, 0.5))


def test_lists_of_voc_are_splits_and_may_not_overlap(tmp_path):
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for part in ("JPEGImages", "SegmentationClass"):
        (tmp_path / part).mkdir()
    for stem in "abcdefgh":
        Image.new("RGB", (12, 12)).save(tmp_path / "JPEGImages" / f"{stem}.jpg")
        mask = Image.fromarray(np.eye(12, dtype=np.uint8))
        mask.save(tmp_path / "SegmentationClass" / f"{stem}.png")
    for name, stems in (("train_aug", "abcdef"), ("val", "gh"), ("other", "fgh")):
        (lists / f"{name}.txt").write_text("\n".join(stems))
    train, test = opened(f"folder:{tmp_path}", train_split="train_aug")
    assert (len(train), len(test)) == (6, 2)
    splits = {"train_split": "train_aug", "test_split": "other"}
    with pytest.raises(InputError, match="share f.jpg; choose splits that do not"):
        opened(f"folder:{tmp_path}", **splits)


def test_splits_that_do_not_apply_are_refused(tmp_path):
    folder = folder_of(tmp_path / "set")
    for dataset in ("shapes", f"folder:{folder}"):
        for split in ("train", "test"):
            opened(dataset, **{f"{split}_split": split})
            with pytest.raises(InputError, match=f"--{split}-split 'val' does not ap"):
                opened(dataset, **{f"{split}_split": "val"})


@pytest.mark.parametrize(
    "of_run, given, found",
    [
        ({}, {}, [None, None]),
        ({"train_split": "train[:9]", "test_split": "train[9:]"}, {}, ["train[:9]"]),
        ({"train_split": "train[:9]"}, {"train_split": "x"}, ["x", None]),
        ({"train_split": "a"}, {"dataset": "nyu_depth_v2"}, [None, None]),
    ],
)
def test_the_splits_are_those_given_or_the_runs_or_the_usual(of_run, given, found):
    run = TrainConfig(norm="bn", dataset="coco/2017", data=DataConfig(**of_run))
    config = EvaluateConfig("w", ("detection",), **given)
    name = config.dataset or run.dataset
    parts = [_part(name, split, run, config) for split in ("train", "test")]
    assert parts[: len(found)] == found


def test_splits_that_share_pictures_are_refused():
    def part(split, words, skip, take):
        spans = (Span("a", skip, take, 10),)
        empty = frozenset(), (), ()
        return DensePrepared("s", split, words, *empty, "", spans, KINDS["voc"], 3)

    train, test = part("train", "train[:9]", 0, 9), part("test", "train[8:]", 8, 2)
    with pytest.raises(InputError, match="split 'train.:9.' and the test split"):
        _check_disjoint({"train": train, "test": test})
    _check_disjoint({"train": train, "test": part("test", "train[9:]", 9, 1)})


def test_scenes_need_gray_or_colours():
    run = TrainConfig(norm="bn", data=DataConfig(channels=5))
    config = EvaluateConfig("w", ("depth",), dataset="shapes")
    with pytest.raises(InputError, match="made for 5 channels"):
        open_dense(TASKS["depth"], config.depth, run, config)


def test_pictures_become_pixels_as_in_the_run(tmp_path):
    """12 bits in files of 16 would otherwise be nearly black."""
    folder = folder_of(tmp_path / "set")
    for file in (folder / "images").iterdir():
        Image.fromarray(np.full((12, 12), 4095, np.uint16)).save(file)
    run = dataclasses.replace(RUN, data=dataclasses.replace(RUN.data, white=4095.0))
    config = EvaluateConfig("w", ("segmentation",), dataset=f"folder:{folder}")
    for view in open_dense(TASKS["segmentation"], config.segmentation, run, config):
        assert (view.source.example(0)["image"] == 255).all()


def test_what_is_no_source_of_dense_examples_is_told_what_it_lacks():
    class Own:
        name, split, targets = "own", "test", frozenset({"mask"})

        def __len__(self):
            return 1

    with pytest.raises(InputError, match="Own is no source .* class_names, .* example"):
        _check_source(Own())
    _check_source(opened("shapes")[0].source)
