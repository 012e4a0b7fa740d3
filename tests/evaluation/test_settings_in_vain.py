"""Settings that change nothing in an evaluation are named; so is what a program can."""

import dataclasses

import pytest

import tiny
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.checks import check_trainable
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.dense.settings import (
    DepthSettings,
    DetectionSettings,
    SegmentationSettings,
)
from byol_bnfree.evaluation.settings import (
    FinetuneSettings,
    KnnSettings,
    LinearSettings,
    SemiSettings,
    TransferSettings,
)
from byol_bnfree.evaluation.without_effect import without_effect
from byol_bnfree.interop.program import ProgramModule

LINEAR = SegmentationSettings(head="linear", width=8)
TUNED = TransferSettings("finetune")


@pytest.mark.parametrize(
    "protocols, fields, said",
    [
        (("knn",), {"save": True}, ["--save"]),
        (("linear",), {"save": True}, []),
        (("depth",), {"plot": True}, ["--plot"]),
        (("depth", "knn"), {"plot": True}, []),
        (("finetune",), {"half_precision": True}, ["--half-precision"]),
        (("transfer",), {"half_precision": True}, []),
        (
            ("transfer",),
            {"half_precision": True, "transfer": TUNED},
            ["--half-precision"],
        ),
        (("transfer", "finetune"), {"half_precision": True}, []),
        (
            ("depth", "random"),
            {"on_bad_image": "skip", "unlabelled": True, "batch_size": 8},
            ["--on-bad-image", "--data.unlabelled", "--batch-size"],
        ),
        (("depth", "knn"), {"on_bad_image": "skip", "batch_size": 8}, []),
        (("depth",), {"on_bad_image": "stop"}, []),
        (("knn",), {"knn": KnnSettings(k=9)}, []),
        (("linear", "random"), {"knn": KnnSettings(k=9)}, ["--knn.k"]),
        (
            ("knn",),
            {"linear": LinearSettings(epochs=1.0, refit=True)},
            ["--linear.epochs", "--linear.refit"],
        ),
        (("semi_supervised",), {"semi": SemiSettings(batch_size=8)}, []),
        (("transfer",), {"finetune": FinetuneSettings(9)}, ["--finetune.steps"]),
        (("transfer",), {"finetune": FinetuneSettings(9), "transfer": TUNED}, []),
        (
            ("segmentation",),
            {"segmentation": SegmentationSettings(encoder="frozen", norms="frozen")},
            ["--segmentation.norms"],
        ),
        (
            ("depth",),
            {"depth": DepthSettings(encoder="frozen", kernel_lengths="initial")},
            ["--depth.kernel-lengths"],
        ),
        (("depth",), {"depth": DepthSettings(kernel_lengths="initial")}, []),
        (("depth",), {"depth": DepthSettings(norms="inference")}, []),
        (
            ("depth",),
            {"depth": DepthSettings(by_scale=False)},
            ["--depth.by-scale"],
        ),
        (
            ("depth",),
            {"depth": DepthSettings(by_scale=False, scales=(1.0, 2.0))},
            [],
        ),
        (
            ("depth",),
            {"depth": DepthSettings(trial_steps=9, further_rates=1)},
            ["--depth.further-rates", "--depth.trial-steps"],
        ),
        (("depth",), {"depth": DepthSettings(trial_steps=9, rates=(0.1, 1.0))}, []),
        (("segmentation",), {"segmentation": LINEAR}, ["--segmentation.width"]),
        (
            ("detection",),
            {"detection": DetectionSettings(head="linear", tower_depth=1)},
            ["--detection.tower-depth"],
        ),
    ],
)
def test_what_changes_nothing_is_named(protocols, fields, said):
    note = without_effect(EvaluateConfig("w", protocols, **fields))
    named = [] if note is None else [text.split()[0] for text in note.split("; ")]
    assert named == said


def test_the_defaults_are_no_settings_without_effect():
    assert without_effect(EvaluateConfig("w")) is None


@pytest.mark.parametrize(
    "transfer, possible", [(TransferSettings(), True), (TUNED, False)]
)
def test_a_program_is_offered_the_protocols_that_read_features(transfer, possible):
    program = object.__new__(ProgramModule)
    encoder = dataclasses.replace(tiny.encoder("gn_ws"), module=program)
    config = EvaluateConfig("w", ("supervised",), transfer=transfer)
    with pytest.raises(InputError, match="protocol supervised needs weights") as told:
        check_trainable(config, encoder)
    assert ("robustness, transfer" in str(told.value)) == possible
