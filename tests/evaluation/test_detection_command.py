"""`evaluate --protocol detection`, from the command to its rows and pictures."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from byol_bnfree.data.dense import shapes
from byol_bnfree.data.dense.example import make_example
from byol_bnfree.errors import InputError
from byol_bnfree.evaluate import main
from runs import copy_of, trained
from test_evaluate import ROOT

QUICK = (
    "--protocol detection --dataset=shapes --detection.steps=4 "
    "--detection.batch-size=4 --detection.head=linear --detection.encoder=frozen "
    "--detection.size 32 32 --detection.scales 1 1 --max-test=8"
).split()
BOXES = {
    "good": ([(2, 2, 40, 40)], [0]),
    "beyond": ([(-8, 2, 40, 40), (5, 5, 5, 20)], [0, 1]),
    "wrong class": ([(2, 2, 40, 40)], [8]),
    "no object": (np.zeros((0, 4)), []),
}


@pytest.mark.slow
def test_the_command_prints_figures_counts_and_pictures(tmp_path):
    workdir = copy_of(trained(), tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "byol_bnfree.evaluate", f"--workdir={workdir}", *QUICK],
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    row = json.loads((workdir / "evaluations.jsonl").read_text())
    objects = row["figures"]["objects"]
    assert objects > 0 and row["figures"]["pictures"] == 8
    for words in ("step 4/4", "ap50_voc", "ap_coco", f"8 pictures, {objects} objects"):
        assert words in said
    for name in ("detection.png", "detection_curves.png"):
        assert str(workdir / name) in done.stdout
        with Image.open(workdir / name) as picture:
            assert min(picture.size) > 300


@pytest.fixture
def no_scene_is_remembered():
    """Scenes of other tests are forgotten before the test, and its own after it."""
    shapes._scene_at.cache_clear()
    yield
    shapes._scene_at.cache_clear()


def pictures_with(monkeypatch, kind: str) -> None:
    """Let all generated scenes have the same boxes."""
    boxes, labels = BOXES[kind]

    def scene(draws, size=64, channels=3):
        image = np.zeros((size, size, channels), np.uint8)
        return make_example(image, None, None, np.float32(boxes), np.array(labels, int))

    monkeypatch.setattr(shapes, "scene", scene)


@pytest.mark.usefixtures("no_scene_is_remembered")
@pytest.mark.parametrize(
    "kind, sentence",
    [
        ("wrong class", "shapes, shapes/train/0: a box has the class 8, but the set"),
        ("no object", "pictures of shapes train have no object that counts"),
    ],
)
def test_boxes_that_cannot_be_used_end_the_command(monkeypatch, kind, sentence):
    pictures_with(monkeypatch, kind)
    with pytest.raises(InputError, match=sentence):
        main([f"--workdir={trained()}", *QUICK])


@pytest.mark.usefixtures("no_scene_is_remembered")
def test_boxes_beyond_the_picture_are_counted_aloud(tmp_path, monkeypatch, capsys):
    pictures_with(monkeypatch, "beyond")
    main([f"--workdir={copy_of(trained(), tmp_path)}", *QUICK])
    said = " ".join(capsys.readouterr().out.split())
    assert "shapes test: 8 boxes reach beyond their picture and were clipped; 8" in said


def test_a_set_without_boxes_names_sets_that_have_them(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        for number in range(30):
            picture = Image.fromarray(np.full((12, 12), number % 2, np.uint8))
            picture.save(tmp_path / part / f"{number}.png")
    with pytest.raises(
        InputError, match="no boxes for --protocol detection .*voc/2007"
    ):
        main([f"--workdir={trained()}", *QUICK, f"--dataset=folder:{tmp_path}"])
