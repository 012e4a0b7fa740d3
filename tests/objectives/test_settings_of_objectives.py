"""What cannot be had together is refused in a sentence before anything starts."""

import dataclasses

import pytest

from byol_bnfree import InputError
from byol_bnfree.command_line import parse_args
from byol_bnfree.config import TrainConfig
from byol_bnfree.training.parts import DataShape, build_parts

REFUSED = {
    "--objective=infonce --micro-batches=2": "the negatives of --objective infonce",
    "--objective=barlow_twins --micro-batches=2": "the correlations of --objective",
    "--byol.loss-normalization=batchnorm --micro-batches=2": "the statistics of --byol",
    "--objective=infonce --batch-size=1": "--batch-size 1 is too small",
    # Under bn the reason that holds for every norm comes first.
    "--objective=infonce --norm=bn --micro-batches=2": "from the whole batch; set it",
    "--objective=moco_v2 --norm=bn --micro-batches=2": "of bn; set it to 1 or use a no",
    "--norm=bn --micro-batches=2": "set --bn-stat-groups to a multiple of 2",
    "--infonce.beta=0.5": "--infonce.beta 0.5 belongs to --objective infonce",
    "--objective=infonce --byol.loss-normalization=none": "belongs to --objective byol",
    "--moco-v2.queue=64": "--moco-v2.queue 64 belongs to --objective moco_v2",
    "--objective=moco_v2 --moco-v2.queue=100": "must be a multiple of 128",
    "--objective=moco_v2 --norm=bn --bn-stat-groups=2": "--bn-stat-groups 2 would give",
    "--objective=infonce --infonce.alpha=0": "--infonce.alpha is 0",
    "--objective=infonce --infonce.beta=-1": "--infonce.beta is -1",
    "--objective=moco_v2 --moco-v2.temperature=0": "--moco-v2.temperature is 0",
    "--objective=infonce --optim.predictor-lr-scale=2": "has no predictor here",
    "--objective=simsiam --optim.lars-clip --optim.name=lars": "predictor's rate is",
    "--optim.predictor-schedule=constant --optim.lars-clip --optim.name=lars": "is con",
    "--model.predictor-start=identity": "set --model.predictor.depth=1",
    "--model.predictor-start=identity --model.predictor.depth=1": "plain-dense=1",
    "--model.predictor.out=8": "must be equal",
    "--objective=moco_v2 --model.predictor.out=8 --model.predictor-start=identity "
    "--model.predictor.depth=1": "must be equal",
    "--byol.predictor=closed_form": "fits 128 features to 64 images",
    "--objective=rotation --augment.view1.quarter-turn=0.75": "predicts their turns",
    "--objective=rotation --augment.view2.vertical-flip=0.5": "--augment.view2.ver",
}
ALLOWED = (
    "--objective=infonce --infonce.beta=0 --micro-batches=2",
    "--objective=moco_v2 --micro-batches=2",
    "--objective=simsiam --micro-batches=2",
    "--objective=simsiam --optim.predictor-schedule=as_rest --optim.lars-clip "
    "--optim.name=lars",
    "--objective=rotation --augment.view1.flip=0.5 --micro-batches=2",
    "--byol.predictor=closed_form --batch-size=256",
    "--optim.predictor-lr-scale=0",
    "--objective=moco_v2 --model.projector.out=8",
    "--objective=infonce --model.projector.out=8",
    "--objective=rotation --model.projector.out=8",
    "--byol.predictor=closed_form --model.projector.out=8",
)


@pytest.mark.parametrize("flags", REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(flags, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_args(flags.split())
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert ended.value.code == 2 and REFUSED[flags] in said


@pytest.mark.parametrize("flags", ALLOWED)
def test_what_can_be_is_not_refused(flags):
    parse_args(flags.split())


def test_vicreg_is_no_objective_and_the_choices_are_said(capsys):
    with pytest.raises(SystemExit) as ended:
        parse_args(["--objective=vicreg"])
    assert ended.value.code == 2
    assert "barlow_twins" in capsys.readouterr().err


def test_images_that_are_not_square_have_no_quarter_turns():
    config = TrainConfig(objective="rotation")
    data = DataShape(1000, 10, (16, 24, 3))
    with pytest.raises(InputError, match="needs square images, but these are 16x24"):
        build_parts(config, data)
    build_parts(dataclasses.replace(config, objective="byol"), data)
