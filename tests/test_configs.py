"""Every recipe in configs/ is a configuration that builds."""

import contextlib
import dataclasses
import json
import os
import re
import sys
from pathlib import Path

import jax
import pytest

from byol_bnfree import InputError, load_config, parse_args
from byol_bnfree.config import OptimConfig
from byol_bnfree.config_files import other_length, other_optimizer
from byol_bnfree.saved_config import config_from_dict
from byol_bnfree.training.parts import DataShape, build_parts
from byol_bnfree.training.state import parameter_count

CONFIGS = Path(__file__).parent.parent / "configs"
RECIPES = {
    "smoke.py": (16, 128),
    "cifar10_cpu.py": (32, 50_000),
    "cifar10_cpu.py:100": (32, 50_000),
    "cifar10_cpu_hour.py": (32, 50_000),
    "cifar10_resnet18.py:30": (32, 50_000),
    "cifar10_resnet18.py:200": (32, 50_000),
    "cifar10_resnet18.py:800": (32, 50_000),
    "cifar10_lightly.py:200": (32, 50_000),
    "cifar10_sololearn.py:1000": (32, 50_000),
    "imagenet_resnet50.py:40": (224, 1_281_167),
    "imagenet_resnet50.py:1000": (224, 1_281_167),
}


def test_every_file_is_listed():
    names = {name.split(":")[0] for name in RECIPES}
    assert names == {path.name for path in CONFIGS.glob("*.py")}


@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
@pytest.mark.parametrize("name", RECIPES)
def test_recipe_builds_on_abstract_shapes(name, norm):
    size, examples = RECIPES[name]
    config = load_config(str(CONFIGS / name), norm)
    others = name.startswith(("cifar10_lightly", "cifar10_sololearn"))
    assert config.norm == ("bn" if others else norm)
    parts = build_parts(config, DataShape(examples, 10, (size, size, 3)))
    assert parts.warmup_steps < parts.total_steps
    assert not config.workdir


def test_vanilla_on_imagenet_has_deepminds_parameters_and_steps():
    config = load_config(str(CONFIGS / "imagenet_resnet50.py:300"))
    parts = build_parts(config, DataShape(1_281_167, 1000, (224, 224, 3)))
    assert parameter_count(parts.abstract_state.online_params) == 37_115_944
    assert (parts.warmup_steps, parts.total_steps) == (3127, 93835)


@pytest.mark.parametrize(
    "name, padding", [("cifar10_lightly", "torch"), ("cifar10_sololearn", "solo_learn")]
)
def test_the_presets_of_peers_have_their_encoder(name, padding):
    config = load_config(str(CONFIGS / f"{name}.py"))
    parts = build_parts(config, DataShape(50_000, 10, (32, 32, 3)))
    # torchvision's ResNet-18 without the classifier, and a 3x3 stem instead of 7x7.
    expected = 11_689_512 - 513_000 - 64 * 3 * (7 * 7 - 3 * 3)
    encoder = parts.abstract_state.online_params["encoder"]
    assert parameter_count(encoder) == expected == 11_168_832
    assert config.model.padding == padding


def test_both_imagenet_arms_have_the_same_parameter_tree():
    trees = [
        build_parts(
            load_config(str(CONFIGS / "imagenet_resnet50.py:300"), norm),
            DataShape(1_281_167, 1000, (224, 224, 3)),
        ).abstract_state.online_params
        for norm in ("bn", "gn_ws")
    ]
    assert jax.tree.structure(trees[0]) == jax.tree.structure(trees[1])


def test_unknown_preset_is_refused_with_the_choices():
    with pytest.raises(InputError, match="40, 100, 300, 1000"):
        load_config(str(CONFIGS / "imagenet_resnet50.py:50"))


def test_an_argument_that_a_recipe_does_not_take_is_one_sentence():
    with pytest.raises(InputError, match="smoke.py takes no argument; remove :200"):
        load_config(str(CONFIGS / "smoke.py:200"))


def test_saved_configuration_comes_back_equal():
    import dataclasses
    import json

    config = load_config(str(CONFIGS / "cifar10_resnet18.py"))
    saved = json.loads(json.dumps(dataclasses.asdict(config)))
    assert config_from_dict(type(config), saved) == config
    with pytest.raises(InputError, match="unknown field"):
        config_from_dict(type(config), saved | {"teacher": 1})


@pytest.mark.parametrize(
    "flags, of_bn",
    [([], ("muon", 0.08)), (["--config=configs/smoke.py"], ("lars", 1.0))],
)
def test_the_optimizer_is_that_of_the_norm_and_a_flag_overrides_it(
    flags, of_bn, monkeypatch
):
    monkeypatch.chdir(CONFIGS.parent)
    assert parse_args(flags).optim.name == "muon"
    assert parse_args([*flags, "--norm=gn_ws"]) == parse_args(flags)
    bn = parse_args([*flags, "--norm", "bn"])
    assert (bn.norm, bn.optim.name, bn.base_lr) == ("bn", *of_bn)
    mixed = parse_args([*flags, "--norm=bn", "--optim.momentum=0.5", "--norm=gn_ws"])
    assert (mixed.norm, mixed.optim.name, mixed.optim.momentum) == (
        "gn_ws",
        "muon",
        0.5,
    )


def lengths(path: Path) -> list[str]:
    """Arguments of a recipe: those that its message names, or any number of epochs."""
    if path.stem in ("smoke", "cifar10_cpu_hour"):
        return [""]
    try:
        load_config(f"{path}:57")
    except InputError as error:
        return [f":{n}" for n in re.findall(r"\b\d+\b", str(error).split("choose")[1])]
    return [":16", ":57"]


@pytest.mark.parametrize("norm, decay", [("bn", 0.1), ("gn_ws", 0.02), ("ln", 0.02)])
@pytest.mark.parametrize("name", [path.name for path in CONFIGS.glob("*.py")])
def test_kernels_decay_as_found_wherever_muon_trains_20_epochs(name, norm, decay):
    for length in lengths(CONFIGS / name):
        config = load_config(f"{CONFIGS / name}{length}", norm)
        long = config.epochs >= 20 and config.steps is None
        if config.optim.name == "muon":
            assert config.optim.weight_decay == (decay if long else 1e-5), length


def test_the_lengths_of_the_presets_are_found():
    assert lengths(CONFIGS / "cifar10_resnet18.py") == [":30", ":100", ":200", ":800"]
    assert lengths(CONFIGS / "imagenet_resnet50.py")[0] == ":40"


def test_vanilla_on_imagenet_trains_at_deepminds_rates():
    config = load_config(str(CONFIGS / "imagenet_resnet50.py:1000"))
    assert (config.norm, config.base_lr) == ("bn", 0.2)
    assert config.optim == OptimConfig(
        weight_decay=1.5e-6, warmup_epochs=10.0, tau_base=0.996
    )
    assert config.model.last_scale_init == 0


def test_a_file_without_norms_gives_its_settings_for_every_norm(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        "from byol_bnfree import TrainConfig\n"
        "def get_config():\n    return TrainConfig(base_lr=0.5)\n"
    )
    config = parse_args([f"--config={path}", "--norm=bn"])
    assert (config.norm, config.base_lr) == ("bn", 0.5)


def test_a_config_file_may_hold_a_subclass_of_the_settings(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "from byol_bnfree import TrainConfig\n"
        "@dataclass(frozen=True)\n"
        "class Own(TrainConfig):\n"
        "    made_for: ClassVar[str] = 'digits'\n"
        "    base_lr: float = 0.5\n"
        "def get_config():\n    return Own()\n"
    )
    assert load_config(str(path)).base_lr == 0.5


def test_a_config_is_that_of_the_file_as_it_is_now(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "own.py"

    def written(steps: int) -> int:
        path.write_text(
            "from byol_bnfree import TrainConfig\n"
            f"def get_config():\n    return TrainConfig(steps={steps})\n"
        )
        os.utime(path, (0, 0))  # an edit that times and sizes do not show
        return load_config(str(path)).steps

    assert [written(1), written(2)] == [1, 2]


@pytest.mark.parametrize("name", ["cifar10_lightly", "cifar10_sololearn", "smoke"])
def test_a_recipe_that_is_used_with_a_norm_it_was_not_written_for_says_so(name, capsys):
    assert parse_args([f"--config={name}", "--norm=bn"]).norm == "bn"
    assert parse_args([f"--config={name}"]) and not capsys.readouterr().err
    assert parse_args([f"--config={name}", "--norm", "gn_ws"]).norm == "gn_ws"
    said, only_bn = capsys.readouterr().err, name != "smoke"
    assert ("written for bn. It was not tuned for gn_ws" in said) is only_bn


OTHER_LENGTHS = {
    "cifar10_cpu --epochs=100": "stays that of 16 epochs; --config=cifar10_cpu:100 has",
    "cifar10_cpu:100 --epochs=10": "; --config=cifar10_cpu:10 has that of 10 epochs.",
    "cifar10_cpu --steps=1": "this run has 1 step. Its optimizer stays that of 16 epo",
    "cifar10_cpu_hour --epochs=10": "has 10 epochs. Its optimizer stays that of 64 ep",
    "imagenet_resnet50:100 --epochs=50": "stays that of 100 epochs.",
}


@pytest.mark.parametrize("command", OTHER_LENGTHS)
def test_a_run_of_another_length_than_its_recipe_says_so(command):
    assert OTHER_LENGTHS[command] in other_length(
        parse_args(f"--config={command}".split())
    )


@pytest.mark.parametrize(
    "command",
    [
        *["cifar10_cpu", "cifar10_cpu:100 --epochs=100", "cifar10_cpu:100 --epochs=50"],
        "cifar10_cpu --epochs=100 --optim.weight-decay=0.02",
        "cifar10_cpu:30 --epochs=16 --optim.weight-decay=0.03",
        "smoke --epochs=3",
    ],
)
def test_a_run_with_the_optimizer_of_its_length_says_nothing(command):
    assert other_length(parse_args(f"--config={command}".split())) is None
    assert other_length(parse_args(["--epochs=3"])) is None


def test_another_optimizer_at_the_rate_of_the_recipe_says_so():
    def note(command: str) -> str | None:
        return other_optimizer(parse_args(command.split()))

    said = note("--optim.name=lars")
    assert "lars replaces muon" in said
    assert "--base-lr=0.08 --optim.momentum=0.95" in said
    assert "--base-lr=0.04" in note("--config=cifar10_cpu --optim.name=adamw")
    assert "muon replaces lars" in note("--config=smoke --norm=bn --optim.name=muon")
    for same in ("", "--norm=bn", "--optim.name=muon"):
        assert note(same) is None
    assert note("--optim.name=lars --base-lr=2") is None


def test_a_recipe_of_the_package_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_path = load_config(str(CONFIGS / "cifar10_cpu.py"))
    for name in ("cifar10_cpu", "configs/cifar10_cpu.py"):
        assert dataclasses.replace(load_config(name), config=by_path.config) == by_path
    assert parse_args(["--config=imagenet_resnet50:40"]).epochs == 40


@pytest.mark.parametrize(
    "path", ["mine/cifar10_cpu.py", "cifar10_cpu.yaml", "mine/configs/cifar10_cpu.py"]
)
def test_the_path_of_a_missing_file_is_no_name_of_a_recipe(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"config {path} is not a file"):
        load_config(f"{path}:3")


def test_a_name_that_no_recipe_has_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="or one of cifar10_cpu, "):
        load_config("cifar10_cpuu")


def test_two_configs_are_refused():
    paths = [f"--config={CONFIGS / name}" for name in ("smoke.py", "cifar10_cpu.py")]
    with pytest.raises(InputError, match="config is given 2 times"):
        parse_args(paths)


@pytest.mark.parametrize("flags", [["--config=None"], ["--config", "None"]])
def test_the_word_none_is_no_file_of_settings(flags):
    assert parse_args([*flags, "--norm=bn"]) == parse_args(["--norm=bn"])


def test_the_word_none_is_no_extension_and_no_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"seed": 7}))
    (tmp_path / "None").mkdir()
    (tmp_path / "None" / "config.json").write_text(json.dumps({"seed": 8}))
    with contextlib.chdir(tmp_path):
        assert parse_args(["--extend=9", "--workdir=."]).seed == 7
        assert parse_args(["--extend=None", "--workdir=."]).seed == 0
        assert parse_args(["--extend=9", "--workdir=None"]).seed == 0
