"""Figures are written for whatever a run has to show, also for next to nothing."""

import math

import numpy as np
import pytest
from PIL import Image

import tiny
from byol_bnfree.data.__main__ import main
from byol_bnfree.data.pipeline import stream_order
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.images.subset import Subset
from byol_bnfree.training.figures import (
    PANELS,
    Sheet,
    _draw_panel,
    _figure,
    _points,
    save_curves,
    save_views,
    sheet_of,
)

METRICS = [metric for panel in PANELS for metric in panel.lines]


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"), np.int32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("b", [1, 10])
def test_views_are_drawn_for_any_batch_and_channels(tmp_path, b, channels):
    views = np.random.default_rng(0).random((2, b, 8, 8, channels), np.float32)
    images = (255 * views[0]).astype(np.uint8)
    save_views(
        tmp_path / "views.png",
        Sheet(images, dict(zip("12", views, strict=True)), ["a $class_"] * b),
    )
    assert pixels(tmp_path / "views.png").std() > 10


def test_a_sheet_shows_pictures_above_both_views_and_no_more_than_n(tmp_path):
    red, blue = np.zeros((2, 4, 8, 8, 3), np.float32)
    red[:3, ..., 0], blue[:3, ..., 2] = 1, 1
    red[3, ..., 1], blue[3, ..., 1] = 1, 1
    images = np.full((4, 16, 16, 3), (255, 255, 0), np.uint8)
    save_views(
        tmp_path / "views.png", Sheet(images, {"1": red, "2": blue}, [""] * 4), n=3
    )
    rows = [{tuple(color) for color in row} for row in pixels(tmp_path / "views.png")]
    first = [
        next(i for i, row in enumerate(rows) if color in row)
        for color in ((255, 255, 0), (255, 0, 0), (0, 0, 255))
    ]
    assert first == sorted(first)
    assert not any((0, 255, 0) in row for row in rows)


def test_a_sheet_is_made_of_any_source():
    cfg, source = tiny.config(), Subset(tiny.light("train"), np.arange(5))
    sheet = sheet_of(cfg, source, [np.zeros((8, 8, 8, 3), np.float32)] * 2)
    shown = stream_order(cfg.seed, 0, cfg.batch_size, 5)
    np.testing.assert_array_equal(sheet.images, source.images(shown))
    assert list(sheet.views) == ["view 1 (T)", "view 2 (T')"]
    assert list(sheet.names) == ["ab"[label] for label in source.labels(shown)]


def test_small_losses_are_seen_and_accuracies_are_percent():
    rows = [
        {"step": s, "train/loss": loss, "probe/top1": 0.25}
        for s, loss in enumerate((4.0, 0.004, 0.09))
    ]
    loss, accuracy = _figure(8, 4).subplots(1, 2)
    for axis, title in ((loss, "loss"), (accuracy, "accuracy")):
        _draw_panel(axis, next(p for p in PANELS if p.title == title), rows)
    height = [loss.transData.transform((0, v))[1] for v in (0.004, 0.09)]
    assert height[1] - height[0] > 0.3 * loss.bbox.height
    assert accuracy.lines[0].get_ydata()[0] == 25 and accuracy.get_ylabel() == "%"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"step": 1} | dict.fromkeys(METRICS, 0.5)],
        [{"step": 1} | dict.fromkeys(METRICS, None), {"step": 2, "ema/tau": math.nan}],
        [{"step": s, "train/loss": s / 10, "optim/grad_norm": 0.0} for s in range(99)],
    ],
    ids=["none", "one", "unknown", "many"],
)
def test_curves_are_drawn_for_any_rows(tmp_path, rows, recwarn):
    save_curves(tmp_path / "curves.png", rows, "run_1: bn, $set_")
    assert pixels(tmp_path / "curves.png").std() > 10
    assert not recwarn.list


def test_a_metric_of_some_rows_keeps_its_steps_and_gaps():
    rows = [
        {"step": 1, "knn/top1": 0.2},
        {"step": 2},
        {"step": 3, "knn/top1": None},
        {"step": 4, "knn/top1": 0.4},
    ]
    expected = [[1, 0.2], [3, math.nan], [4, 0.4]]
    np.testing.assert_array_equal(_points(rows, "knn/top1"), expected)


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("missing/v.png", "--out .* cannot be written; name a file in a folder"),
        ("folder", "--out .* cannot be written; name a file in a folder"),
        ("v.xyz", "--out .* has an ending that no kind of picture has; use one of"),
        ("p/v.png", "--out .* lies in the folder of pictures folder:.*; give a file"),
    ],
)
def test_views_that_cannot_be_written_are_refused_before_any_work(
    out, why, tmp_path, monkeypatch
):
    for folder in ("folder", "p"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=why):  # the folder has no pictures
        main(["views", f"--out={out}", f"--dataset=folder:{tmp_path}/p"])
