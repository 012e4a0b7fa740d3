"""Settings without effect are named; those with effect are not."""

import re
from pathlib import Path

import pytest

from byol_bnfree.command_line import default_typed_in_vain, parse_args
from byol_bnfree.whole_run.without_effect import without_effect

ROOT = Path(__file__).parents[1]
IN_VAIN = {
    "--model.stem-stride=2": "",
    "--model.last-scale-init=0": "",
    "--optim.trust-coefficient=0.02": "",
    "--model.groups=8": "--norm=ln",
    "--model.min-group-channels=4": "--norm=bn",
    "--model.no-standardize-conv": "--norm=gn",
    "--model.no-standardize-dense": "--norm=gn",
    "--model.predictor.plain-dense=1": "--norm=bn",
    "--init-from-part=encoder": "",
    "--views.targets=pairs": "",
    "--views.small-predictor=shared": "",
    "--views.small-area 0.1 0.2": "--views.small=1 --augment.function=mine.py:views",
    "--augment.view2.blur=1": "--augment.function=mine.py:views",
    "--augment.view1.hue=0.2": "--augment.view1.jitter=0",
    "--augment.view2.solarize-threshold=0.2": "--augment.view2.solarize=0",
    "--evaluation.linear-too": "--evaluation.knn-every-epochs=0",
    "--data.max-pixels=1000": "",
    "--data.shapes-train=64": "--dataset=cifar10",
    "--target-init=copy": "--objective=simsiam",
    "--optim.tau-base=0.5": "--objective=infonce --infonce.target=none",
    "--optim.tau-schedule=cosine": "--objective=simsiam",
    "--infonce.alpha=0.5": "--objective=infonce --infonce.beta=0",
    "--model.projector.hidden=64": "--model.projector.depth=1",
    "--projector-norm=ws": "--model.projector.depth=1",
    "--projector-norm=ln": "--model.projector.depth=1 --norm=bn",
    "--model.predictor.hidden=64": "--objective=moco_v2",
    "--predictor-norm=ln": "--objective=moco_v2",
    "--model.predictor.depth=3": "--objective=barlow_twins",
    "--model.predictor.output-bias": "--byol.predictor=closed_form --batch-size=256",
    "--model.predictor.out=64": "--objective=rotation",
    "--data.workers=4": "",
    "--on-bad-image=skip": "",
    "--data-dir=/x": "",
    "--epochs=3": "--steps=200",
    "--data.in-memory-gib=1": "",
}
WITH_EFFECT = {
    "--epochs=3": "",
    "--model.stem-stride=2": "--model.stem=small",
    "--model.last-scale-init=0": "--model.name=resnet50",
    "--optim.trust-coefficient=0.02": "--optim.name=lars",
    "--model.groups=8": "--norm=ln --encoder-norm=gn",
    "--model.no-standardize-conv": "--norm=gn --encoder-norm=gn_ws",
    "--model.predictor.plain-dense=1": "--norm=gn_ws",
    "--views.targets=pairs": "--views.count=3",
    "--views.small-predictor=shared": "--views.small=1",
    "--views.small-area 0.1 0.2": "--views.small=1",
    "--augment.view1.flip=0": "--augment.function=mine.py:views",
    "--augment.view1.hue=0.2": "--augment.view2.jitter=0",
    "--data.max-pixels=1000": "--dataset=cifar10",
    "--data.shapes-train=64": "",
    "--target-init=copy": "--objective=moco_v2",
    "--optim.tau-schedule=cosine": "--objective=moco_v2",
    "--infonce.alpha=0.5": "--objective=infonce",
    "--projector-norm=ln": "--model.projector.depth=1",
    "--model.predictor.hidden=64": "--objective=infonce --infonce.predictor",
    "--predictor-norm=ln": "--objective=simsiam",
    "--data.workers=4": "--dataset=cifar10",
}


def named(*flags: str, backend: str = "gpu") -> list[str]:
    """Return the flags that a command names."""
    return [s.split()[0] for s in without_effect(parse_args([*flags]), backend)]


@pytest.mark.parametrize("setting", IN_VAIN)
def test_a_setting_in_vain_is_named(setting):
    flag = re.split("[= ]", setting)[0].replace("no-standardize", "standardize")
    assert flag in named(*setting.split(), *IN_VAIN[setting].split())


@pytest.mark.parametrize("setting", WITH_EFFECT)
def test_a_setting_with_effect_is_not_named(setting):
    assert named(*setting.split(), *WITH_EFFECT[setting].split()) == []


@pytest.mark.parametrize(
    "command, said",
    [
        ("--config=smoke --epochs=10", True),
        ("--steps=3 --epochs 10", True),
        *[("--config=smoke", False), ("--epochs=10", False)],
        ("--config=smoke --epochs=11", False),  # without_effect names it
        ("--config=smoke --steps=None --epochs=10", False),
    ],
)
def test_epochs_typed_with_their_default_are_named_too(command, said):
    config = parse_args(command.split())
    note = default_typed_in_vain(config, command.split())
    assert (note is not None) == said
    assert not said or note.startswith("--epochs 10 has no effect: the run has")


@pytest.mark.parametrize("norm", ["bn", "gn_ws", "ln", "none"])
def test_the_defaults_name_nothing(norm):
    assert named(f"--norm={norm}") == []
    assert named(f"--norm={norm}", "--objective=moco_v2") == []
    assert named(f"--norm={norm}", "--objective=simsiam") == []


def test_own_parts_leave_the_settings_of_ours_without_effect():
    found = named("--model=mine.py:net", "--model.width=2", "--model.stem=small")
    assert found == ["--model.width", "--model.stem"]
    found = named("--augment.function=mine.py:views", "--augment.view1.hue=0.2")
    assert found == ["--augment.view1.hue"]


@pytest.mark.parametrize(
    "config", sorted((ROOT / "configs").glob("*.py")), ids=lambda p: p.stem
)
@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_no_recipe_sets_anything_in_vain(config, norm):
    assert named(f"--config={config}", f"--norm={norm}") == []


def test_remat_is_in_vain_on_cpus_alone():
    assert named("--remat", backend="cpu") == ["--remat"]
    assert named("--remat", backend="gpu") == []
