"""A run says how good its figures are, and how often it looks at them."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import runs
import tiny
from byol_bnfree.config import EvalConfig, OptimConfig, TrainConfig
from byol_bnfree.data.sources import MemorySource
from byol_bnfree.diagnostics.usual import usual
from byol_bnfree.evaluation import final
from byol_bnfree.evaluation.final import Evaluator, Features
from byol_bnfree.recipes import muon
from byol_bnfree.training.parts import DataShape
from byol_bnfree.training.program import Program
from byol_bnfree.whole_run.introduction import (
    crowded,
    objective_words,
    optimizer_words,
    rate_words,
)
from byol_bnfree.whole_run.steps import _periodic
from byol_bnfree.whole_run.summary import conclude


@pytest.mark.parametrize(
    "fields, words",
    [
        ({}, "byol: loss_normalization l2, predictor network"),
        ({"objective": "simsiam"}, "simsiam: the target network is not used"),
        (
            {"objective": "infonce"},
            "infonce: predictor False, target none, beta 1.0, alpha 0.1, the predictor "
            "is not used, the target network is not used",
        ),
        (
            {"objective": "moco_v2"},
            "moco_v2: queue 4096, temperature 0.2, the predictor is not used",
        ),
    ],
)
def test_a_run_says_its_objective_and_what_it_does_not_use(fields, words):
    assert objective_words(TrainConfig(**fields)) == words


@pytest.mark.parametrize("norm, decay", [("bn", 0.1), ("gn_ws", 0.02)])
def test_a_run_says_the_weight_decay_that_the_norm_chose(norm, decay):
    words = optimizer_words(TrainConfig(norm=norm, optim=muon(norm, 20)))
    assert words == f"muon, momentum 0.95, weight decay {decay}"


def test_a_run_says_the_unusual_settings_of_its_optimizer():
    changed = {"bias_weight_decay": 2e-3, "bias_lr_scale": 2.0}
    changed |= {"predictor_lr_scale": 10.0, "trust_coefficient": 0.02}
    lars = TrainConfig(optim=OptimConfig(**changed, lars_clip=True))
    assert optimizer_words(lars) == (
        "lars, momentum 0.9, weight decay 1e-06, bias-weight-decay 0.002, "
        "bias-lr-scale 2, predictor-lr-scale 10, trust-coefficient 0.02, lars-clip"
    )
    sgd = TrainConfig(optim=OptimConfig(name="sgd", **changed))
    assert "trust" not in optimizer_words(sgd)  # only lars has it


def test_a_run_says_the_constant_rate_of_the_predictor():
    config = TrainConfig(objective="simsiam", base_lr=0.05, batch_size=512)
    assert "predictor constant at 0.1" in rate_words(config, 0, 10)
    assert "predictor" not in rate_words(TrainConfig(), 0, 10)
    optim = OptimConfig(predictor_lr_scale=2.0)
    faster = TrainConfig(objective="simsiam", base_lr=0.05, batch_size=512, optim=optim)
    assert "predictor constant at 0.2" in rate_words(faster, 0, 10)
    assert "scale" not in optimizer_words(faster)  # the rate has it already


def test_a_batch_larger_than_the_data_is_said():
    assert crowded(64, 64) is None
    assert "each image 6.4 times" in crowded(64, 10)


def test_the_end_table_has_the_chance_level(capsys):
    figures = {"untrained": 0.25, "trained": 0.66}
    summary = {"knn": figures, "linear": figures, "chance": 0.1, "images_per_s": 9.0}
    conclude(summary | {"collapse": {"verdict": "healthy"}}, Path("run"))
    head, knn, *_ = capsys.readouterr().out.splitlines()
    assert head.endswith("chance") and knn.split() == ["kNN", "25.0", "%"] + (
        ["66.0", "%", "10.0", "%"]
    )


def test_the_end_names_the_files_that_are_there(tmp_path, capsys):
    """A full disk leaves no room for the curves."""
    figures = {"untrained": None, "trained": None}
    summary = {"knn": figures, "linear": figures, "chance": None, "images_per_s": None}
    (tmp_path / "summary.json").touch()
    (tmp_path / "checkpoints").mkdir()
    conclude(summary | {"collapse": {"verdict": "healthy"}}, tmp_path)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.split() == ["summary.json", "checkpoints/"]


def evaluator_of(train, test) -> Evaluator:
    """An evaluator of images with these labels."""
    sources = [
        MemorySource(
            "set", split, ("a", "b"), np.zeros((len(of), 8, 8, 3), np.uint8), of
        )
        for split, of in (
            ("train", np.array(train, np.int32)),
            ("test", np.array(test, np.int32)),
        )
    ]
    cfg = tiny.config()
    parts = {"config": cfg, "network": tiny.network(cfg)}
    data = DataShape(len(train), 2, (8, 8, 3))
    program = Program(**dict.fromkeys(Program._fields, "") | parts | {"data": data})
    return Evaluator(program, *sources)


def test_chance_is_the_best_constant_answer():
    assert evaluator_of([0, 1], [0, 0, 0, 1, -1]).chance == 0.75


def test_a_quick_accuracy_is_another_measurement_where_images_are_many():
    many = evaluator_of(3000 * [0, 1], [0, 1])
    assert many.measured(quick=True)["train_images"] == 2048
    assert many.measured(quick=False)["train_images"] == 6000
    few = evaluator_of([0, 1], [0, 1])
    assert few.measured(quick=True) == few.measured(quick=False)


def test_accuracies_leave_out_images_without_a_label():
    evaluator = evaluator_of([-1, 0, 1, -1], [0, 1, -1, -1])
    features = Features(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
    assert evaluator.used.train.tolist() == evaluator.quick.train.tolist() == [1, 2]
    assert evaluator.quick.test.tolist() == [0, 1]
    assert evaluator._knn(features, evaluator.quick) == 1.0


@pytest.mark.parametrize(
    "train, test", [([-1, -1], [0, 1]), ([0, 1], [-1, -1]), ([0, 0, -1], [0, 1])]
)
def test_without_labels_of_two_classes_there_are_no_accuracies(train, test):
    evaluator = evaluator_of(train, test)
    assert not evaluator.possible and evaluator.chance is None
    assert "set has too few labels, so there are no acc" in evaluator.obstacle


def test_the_untrained_encoder_is_random_whatever_a_run_starts_from():
    """A run that resumes does not read the weights of --init-from again."""
    state, _ = tiny.start(tiny.config(norm="gn_ws"))
    evaluator = evaluator_of([0, 1], [0, 1])
    evaluator._program = evaluator._program._replace(untrained=lambda _: state)
    assert evaluator.untrained({}) is state


def test_a_quick_subset_without_labels_is_all_images(monkeypatch):
    monkeypatch.setattr(final, "QUICK_TRAIN", 2)
    evaluator = evaluator_of([-1] * 50 + [0, 1], [0, 1])
    assert evaluator.possible and evaluator.quick.train.tolist() == [50, 51]


@pytest.mark.parametrize(
    "images, settings, steps",
    [
        (50_000, {}, 195),  # every epoch
        (4_096, {}, 48),  # three epochs: else kNN would cost as much as training
        (4_096, {"skip": True}, None),
        (4_096, {"knn_every_epochs": 0.0}, None),
        (4_096, {"knn_every_epochs": 2.0}, 32),
    ],
)
def test_knn_is_measured_as_often_as_is_cheap(images, settings, steps):
    config = TrainConfig(batch_size=256, evaluation=EvalConfig(**settings))
    data = SimpleNamespace(num_examples=images)
    quick = (np.arange(min(images, 2048)), np.arange(1024))
    evaluator = SimpleNamespace(
        possible=True, quick=quick, quick_is_all=False, knn=None, quick_knn=None
    )
    program = SimpleNamespace(config=config, data=data, total_steps=1000)
    found = _periodic(program, evaluator)
    assert (found and found.every) == steps


def test_a_warning_says_what_is_usual_for_the_norm():
    parts = ("encoder", "projector", "predictor")
    assert "unusual with BatchNorm" in usual(dict.fromkeys(parts, "bn"))
    assert "often falls in the first steps" in usual(dict.fromkeys(parts, "gn_ws"))
    assert "first steps" in usual({"encoder": "bn", "projector": "none"})


def test_every_figure_of_a_run_is_documented():
    """With its unit, in docs/training.md."""
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text()
    known = set(re.findall(r"`([\w/.]+)`", page.partition("## What a run writes")[2]))
    workdir = runs.trained()
    rows = (workdir / "metrics.jsonl").read_text().splitlines()
    names = {name for row in rows for name in json.loads(row)} - {"step"}
    names = {name for name in names if not name.startswith("collapse/")}
    names |= {*json.loads((workdir / "summary.json").read_text())}
    assert names <= known
