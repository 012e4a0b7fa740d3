"""Protocols that train, from the configuration to rows and files in a work folder."""

import contextlib
import json

import jaxtyping
import numpy as np
import pytest

import tiny
from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation import (
    checks,
    finetune_evaluation,
    linear_evaluation,
    semi_supervised_evaluation,
    supervised_evaluation,
)
from byol_bnfree.evaluation.checks import check_protocols
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.settings import (
    FinetuneSettings,
    KnnSettings,
    LinearSettings,
    SemiSettings,
    SupervisedSettings,
    TransferSettings,
)
from runs import copy_of, run, trained
from tiny import light

QUICK = {
    "linear": LinearSettings(epochs=0.5, batch_size=16),
    "semi": SemiSettings((0.05, 0.1), (0.1,), (1.0,), batch_size=16),
    "finetune": FinetuneSettings(2, 16, (0.01,), (0.0,)),
    "supervised": SupervisedSettings(0.5, warmup_epochs=0.0, batch_size=16),
}
PROTOCOLS = ("linear", "semi_supervised", "finetune", "supervised")


@pytest.mark.slow
def test_every_protocol_leaves_its_row_and_nothing_unfinished(tmp_path):
    workdir = copy_of(trained(), tmp_path)
    checkpoints = [f.read_bytes() for f in (workdir / "checkpoints").rglob("*.json")]
    rows = run(workdir, *PROTOCOLS, **QUICK)
    subjects = [(r["identity"]["protocol"], r["identity"]["network"]) for r in rows]
    assert subjects == [
        *(("linear", "online"), ("semi_supervised", "online")),
        *(("semi_supervised", "online"), ("finetune", "online")),
        ("supervised", "random"),
    ]
    assert rows[0]["identity"]["settings"]["epochs"] == 0.5
    assert rows[0]["chosen"]["rate"] in LinearSettings().rates
    shares = [row["identity"]["settings"]["share"] for row in rows[1:3]]
    assert shares == [0.05, 0.1]
    listed = workdir / "evaluation" / "labels-shapes-10pct-seed0.json"
    assert np.bincount(json.loads(listed.read_text())["labels"]).tolist() == [2] * 10
    assert not list((workdir / "evaluation" / "unfinished").iterdir())
    assert run(workdir, *PROTOCOLS, **QUICK) == rows  # none is measured twice
    after = [f.read_bytes() for f in (workdir / "checkpoints").rglob("*.json")]
    assert checkpoints == after


def check(*protocols, groups=1, **fields):
    run = TrainConfig(norm="bn", bn_stat_groups=groups)
    config = EvaluateConfig("w", protocols, **fields)
    check_protocols(config, config.protocol, run, light(), devices=2)


def test_a_batch_that_cannot_be_cut_is_refused_for_the_protocols_asked_for():
    odd = {"linear": LinearSettings(batch_size=9)}
    check("knn", **odd)
    with pytest.raises(InputError, match="linear.batch-size 9 .* a multiple of 2"):
        check("linear", **odd)
    with pytest.raises(InputError, match="supervised.batch-size 16 .* multiple of 32"):
        check("supervised", groups=32, supervised=QUICK["supervised"])


def test_images_that_cannot_be_held_out_are_refused_before_any_work():
    many = LinearSettings(held_out=48, batch_size=16)
    check("knn", linear=many)
    with pytest.raises(InputError, match="48 of 48 training images"):
        check("linear", linear=many)


@pytest.mark.parametrize("epochs, warmup, fits", [(3, 5, 0), (5, 5, 0), (6, 5, 1)])
def test_a_warmup_must_be_shorter_than_the_training(epochs, warmup, fits):
    settings = SupervisedSettings(float(epochs), 0.1, 0.0, float(warmup), batch_size=32)
    check("knn", supervised=settings)
    refused = pytest.raises(InputError, match="--supervised.warmup-epochs 5 is 7 steps")
    with contextlib.nullcontext() if fits else refused:
        check("supervised", supervised=settings)


def test_what_transfer_needs_is_checked_before_any_work(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checks, "check_sets", lambda *_: None)
        check("transfer", finetune=FinetuneSettings(batch_size=9))
        tuned = TransferSettings("finetune")
        with pytest.raises(InputError, match="finetune.batch-size 9"):
            check("transfer", transfer=tuned, finetune=FinetuneSettings(batch_size=9))
    with pytest.raises(InputError, match="'mnist'; choose from food101, cifar10"):
        check("transfer", transfer=TransferSettings(datasets=("mnist",)))


def test_more_labels_than_a_class_has_are_refused_before_any_work():
    with pytest.raises(InputError, match="class 'a' has .* ask for a smaller share"):
        check("semi_supervised", semi=SemiSettings(shares=(0.1, 1.0)))


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"semi": SemiSettings(shares=(2.0,))}, "semi.shares has 2.0"),
        ({"linear": LinearSettings(rates=())}, "linear.rates is empty"),
        ({"linear": LinearSettings(epochs=0)}, "linear.epochs is 0"),
        ({"finetune": FinetuneSettings(weight_decays=(-1.0,))}, "weight-decays is -1"),
        ({"seed": 10**30}, "seed is 10+; it must be a whole number"),
        ({"knn": KnnSettings(temperature=1e-30)}, "knn.temperature is 1e-30; .* least"),
        ({"save": True, "weights": "a.pth"}, "--save was given with --weights a.pth"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields, sentence):
    with pytest.raises(InputError, match=sentence):
        EvaluateConfig("w", **fields)


OWN_CODE = {
    "linear": (linear_evaluation, LinearSettings, {"augmentation": "none"}),
    "semi": (
        lambda *given: semi_supervised_evaluation(*given[:3], 0.5, settings=given[3]),
        *(SemiSettings, {"kernel_lengths": "reset"}),
    ),
    "finetune": (finetune_evaluation, FinetuneSettings, {"rates": ()}),
    "supervised": (supervised_evaluation, SupervisedSettings, {"batch_size": 1.5}),
}


@pytest.mark.parametrize("protocol", OWN_CODE)
def test_impossible_settings_are_refused_in_your_own_code_too(protocol, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for users
    evaluation, settings, fields = OWN_CODE[protocol]
    (name,) = fields
    flag = f"--{protocol}.{name.replace('_', '-')} is "
    with pytest.raises(InputError, match=flag):
        evaluation(tiny.encoder("none"), light(), light(), settings(**fields))
