"""Generated scenes: the targets agree with the picture and with each other."""

import threading

import numpy as np
import pytest

from byol_bnfree.data.dense import shapes
from byol_bnfree.data.dense import view as view_module
from byol_bnfree.data.dense.example import PADDING, DenseSource
from byol_bnfree.data.dense.shapes import Scenes
from byol_bnfree.data.dense.view import DenseView, Windows
from byol_bnfree.data.pipeline import stream_order
from byol_bnfree.data.sources import Streaming

SCENES = Scenes("train", 30, size=32)
EXAMPLES = [SCENES.example(i) for i in range(30)]


def test_a_scene_depends_on_seed_split_and_index_only():
    again = Scenes("train", 5, size=32).example(3)
    for key, array in EXAMPLES[3].items():
        np.testing.assert_array_equal(array, again[key])
    others = Scenes("test", 5, size=32), Scenes("train", 5, size=32, seed=1)
    for other in others:
        assert not np.array_equal(other.example(3)["image"], again["image"])


def test_boxes_are_tight_around_pixels_of_their_class():
    seen = 0
    for example in EXAMPLES:
        for box, kind in zip(example["boxes"], example["box_class"], strict=True):
            if kind == PADDING:
                continue
            y0, x0, y1, x1 = box.astype(int)
            part = example["mask"][y0:y1, x0:x1] == kind + 1
            edges = part[0], part[-1], part[:, 0], part[:, -1]
            assert all(edge.any() for edge in edges)
            seen += 1
    assert seen > 30


def test_the_wall_is_behind_all_objects():
    for example in EXAMPLES:
        wall = example["mask"] == 0
        assert (example["depth"][wall] == shapes.WALL).all()
        objects = example["depth"][~wall]
        assert ((objects >= shapes.NEAR) & (objects <= shapes.FAR)).all()


def test_every_class_occurs_and_gray_pictures_have_one_channel():
    kinds = np.unique(np.concatenate([e["box_class"] for e in EXAMPLES]))
    assert kinds.tolist() == [PADDING, *range(8)]
    assert Scenes("test", 1, size=32, channels=1).example(0)["image"].shape[2] == 1


@pytest.mark.parametrize("depth_by_scale", [False, True])
def test_windows_are_fixed_by_seed_step_and_row(depth_by_scale):
    windows = Windows((24, 20), (0.5, 2.0), depth_by_scale=depth_by_scale)
    view = DenseView(SCENES, windows, seed=1)
    rows = np.arange(4)
    first, again = (view.crops(rows, rows, 5) for _ in range(2))
    assert first["image"].shape == (4, 24, 20, 3) and first["boxes"].shape[0] == 4
    for key, array in first.items():
        np.testing.assert_array_equal(array, again[key])
    assert not np.array_equal(view.crops(rows, rows, 6)["image"], first["image"])
    alone = view.crops(rows[2:], rows[2:], 5)
    np.testing.assert_array_equal(alone["image"], first["image"][2:])


@pytest.mark.parametrize("kind", ["crops", "examples"])
def test_several_threads_read_the_pictures_of_a_batch(kind, monkeypatch):
    both = threading.Barrier(2)

    class Meeting(Scenes):
        def example(self, index):
            both.wait(timeout=30)  # until another thread reads too
            return super().example(index)

    monkeypatch.setattr(view_module, "usable_cores", lambda: 2)
    view_module._threads.cache_clear()
    view, rows = DenseView(Meeting("train", 2, size=32), Windows((16, 16))), [1, 0]
    given = {"crops": (np.array(rows), np.arange(2), 5), "examples": (np.array(rows),)}
    found = getattr(view, kind)(*given[kind])
    view_module._threads.cache_clear()
    expected = getattr(DenseView(SCENES, view.windows), kind)(*given[kind])
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)


def test_windows_have_other_random_numbers_than_the_order_of_an_epoch(monkeypatch):
    keys, seeded = [], np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda k: keys.append(k) or seeded(k))
    DenseView(SCENES, Windows((16, 16)), seed=1).crops(np.array([3]), np.array([0]), 5)
    stream_order(1, 5 * 7, 6 * 7, 7)  # epoch 5 of 7 pictures
    windows, order = (seeded(key).integers(2**32) for key in (keys[-2], keys[-1]))
    assert windows != order


def test_a_view_is_a_source_of_central_windows():
    view = DenseView(SCENES, Windows((16, 16)))
    assert isinstance(view, Streaming) and isinstance(SCENES, DenseSource)
    assert view.image_shape == (16, 16, 3) and view.num_classes == 9
    found = view.examples(np.array([2]))
    np.testing.assert_array_equal(found["image"][0], EXAMPLES[2]["image"][8:24, 8:24])
    np.testing.assert_array_equal(found["mask"][0], EXAMPLES[2]["mask"][8:24, 8:24])


def test_a_fixed_resize_does_not_change_the_depth():
    whole = DenseView(Scenes("test", 4), Windows((64, 64), depth_by_scale=True))
    half = Windows((32, 32), test_scale=0.5, depth_by_scale=True)
    rows = np.arange(4)
    true = np.unique(whole.examples(rows)["depth"])
    for view in (DenseView(whole.source, half), whole):
        for found in (view.examples(rows), view.crops(rows, rows, 0)):
            assert np.isin(found["depth"], true).all()


def test_gray_and_coloured_scenes_have_different_identities():
    assert Scenes("test", 4).identity != Scenes("test", 4, channels=1).identity
