"""Long kernels are named before they are fine-tuned, and get their initial lengths."""

import dataclasses

import jax
import numpy as np
import pytest

import tiny
from byol_bnfree.config import ModelConfig
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation import finetune_evaluation, semi_supervised_evaluation
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.dense.settings import DenseSettings, DepthSettings
from byol_bnfree.evaluation.fine_tuned import note_on_lengths
from byol_bnfree.evaluation.settings import (
    FinetuneSettings,
    SemiSettings,
    TransferSettings,
    described,
)
from tiny import light

GROWTH = 6.0
SHORT = FinetuneSettings(kernel_lengths="initial")


def long_encoder(norm="gn_ws"):
    """An encoder whose kernels are six times as long as at the start."""
    first = tiny.encoder(norm)
    params = jax.tree.map(
        lambda leaf: GROWTH * leaf if leaf.ndim == 4 else leaf,
        first.variables["params"],
    )
    variables = {**first.variables, "params": params}
    return dataclasses.replace(first, variables=variables, step=9)


@pytest.mark.parametrize(
    "protocols, fields, named",
    [
        (("knn", "linear"), {}, []),
        (("supervised",), {}, []),
        (("finetune",), {}, ["finetune"]),
        (("finetune",), {"finetune": SHORT}, []),
        (("transfer",), {}, []),
        (("transfer",), {"transfer": TransferSettings("finetune")}, ["finetune"]),
        (("depth", "semi_supervised"), {}, ["semi", "depth"]),
        (("depth",), {"depth": DepthSettings(encoder="frozen")}, []),
        (("finetune", "semi_supervised"), {"finetune": SHORT}, ["semi"]),
    ],
)
def test_the_note_names_the_settings_of_fits_that_long_kernels_slow_down(
    protocols, fields, named
):
    config = EvaluateConfig("w", protocols, **fields)
    note = note_on_lengths(config, long_encoder())
    flags = [word for word in (note or "").split() if word.startswith("--")]
    assert flags == [f"--{group}.kernel-lengths=initial" for group in named]
    if named:
        assert "6.0 times the L2 norm" in note and "36 times more slowly" in note
    assert note_on_lengths(config, tiny.encoder("gn_ws")) is None


def test_state_dicts_of_other_programs_get_no_note():
    """Their step is 0. torchvision's kernels are longer than ours from the start."""
    theirs = dataclasses.replace(long_encoder(), step=0)
    assert note_on_lengths(EvaluateConfig("w", ("finetune",)), theirs) is None
    short = EvaluateConfig("w", ("finetune",), finetune=SHORT)
    assert note_on_lengths(short, theirs) is None


def test_initial_lengths_are_refused_where_lengths_matter():
    config = EvaluateConfig("w", ("finetune",), finetune=SHORT)
    with pytest.raises(InputError, match="finetune.kernel-lengths=initial: the length"):
        note_on_lengths(config, tiny.encoder("none"))
    kept = EvaluateConfig("w", ("finetune",))
    assert note_on_lengths(kept, tiny.encoder("none")) is None


@pytest.mark.parametrize("protocol", ["finetune", "semi_supervised"])
def test_a_fit_begins_with_the_lengths_that_were_asked_for(protocol):
    """After one small step the kernels still have about the length of the start."""
    lengths = {}
    for asked in ("kept", "initial"):
        if protocol == "finetune":
            settings = FinetuneSettings(1, 16, (1e-4,), (0.0,), asked)
            out = finetune_evaluation(long_encoder(), light(), light(), settings)
        else:
            settings = SemiSettings((0.5,), (1e-4,), (1.0,), 16, asked)
            source = light(n=100)
            out = semi_supervised_evaluation(
                long_encoder(), source, source, 0.5, settings=settings
            )
        kernel = out.fitted.variables["params"]["conv1"]["kernel"]
        lengths[asked] = np.linalg.norm(kernel)
    assert lengths["kept"] == pytest.approx(GROWTH * lengths["initial"], rel=0.1)


def test_results_with_the_lengths_as_they_are_keep_their_name():
    """A result that was stored before there was the setting is found again."""
    assert "kernel_lengths" not in described(FinetuneSettings())
    assert "further_rates" not in described(DenseSettings())
    assert described(DenseSettings(further_rates=2))["further_rates"] == 2
    assert described(SHORT)["kernel_lengths"] == "initial"
    assert described(ModelConfig()) == dataclasses.asdict(ModelConfig())
