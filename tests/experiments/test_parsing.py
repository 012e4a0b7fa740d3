"""The quick parser of arms gives the settings of the command line's parser."""

import pytest

from byol_bnfree.command_line import parse_args
from experiments import GRIDS
from experiments.grid import load_experiment
from experiments.parsing import effective, parsed
from experiments.scales import SCALES


def test_the_arms_of_every_experiment_have_the_settings_of_their_commands():
    """One arm for each set of flags that an arm has, because parsing is slow."""
    scale, arms = SCALES["cpu"], {}
    for name in GRIDS:
        for arm in load_experiment(name).arms(scale):
            arms.setdefault(tuple(f.partition("=")[0] for f in arm.flags), arm)
    for arm in arms.values():
        flags = (*scale.flags(300), *arm.flags)
        assert parsed(flags) == parse_args(flags), arm.name


@pytest.mark.parametrize(
    "flags",
    [
        ("--base-lr=1", "--base_lr=2"),
        ("--model.no-standardize-conv", "--remat", "--no-remat"),
        ("--model.predictor.plain-dense", "1", "--model.predictor.plain-dense=0"),
        ("--encoder-norm=None", "--projector-norm=ln", "--steps=7", "--norm", "bn"),
        ("--data.image-size", "8", "4", "--epochs=3"),
        ("--remat=True", "--no-remat"),
    ],
)
def test_flags_of_every_form_are_read_as_in_a_command(flags):
    try:
        wanted = parse_args(flags)
    except SystemExit:
        with pytest.raises(SystemExit):
            parsed(flags)
    else:
        assert parsed(flags) == wanted


def test_wrong_flags_fail_as_in_a_command():
    wrong = ("--base-lr=x", "--steps=0.5", "--nothing=1", "--init=other")
    for flag in (*wrong, "--batch-size=0"):
        with pytest.raises(SystemExit):
            parsed(("--norm=bn", flag))


def test_a_flag_that_an_arm_replaces_is_left_out():
    flags = ("--batch_size=8", "--norm=bn", "--batch-size=9", "--evaluation.skip")
    kept = effective(flags)
    assert kept == ("--batch-size=9", "--norm=bn", "--evaluation.skip")
    assert parsed(kept) == parsed(flags)
    own_words = ("--norm", "bn", "--norm", "gn_ws")
    assert effective(own_words) == own_words
