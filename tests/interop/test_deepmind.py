"""Files of DeepMind's form become the same networks here."""

import functools
import json
import os
import subprocess
from pathlib import Path

import assembler
import dm_trees
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from byol_bnfree import InputError, load_encoder
from byol_bnfree.assembly import create_network
from byol_bnfree.interop import deepmind
from byol_bnfree.interop.__main__ import main
from byol_bnfree.interop.trees import flat
from byol_bnfree.models.byol import Variables


@functools.cache
def variables() -> Variables:
    """Random ones, with statistics of ten updates."""
    network = create_network(dm_trees.CONFIG, tiny.CLASSES)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((2, 32, 32, 3)))
    draws = np.random.default_rng(0)

    def draw(leaf):
        if leaf.dtype == jnp.int32:
            return np.int32(10)
        if len(leaf.shape) > 1:  # kernels; the features of 50 layers stay finite
            scale = np.sqrt(3 / np.prod(leaf.shape[:-1]))
            return draws.uniform(-scale, scale, leaf.shape).astype(np.float32)
        return draws.uniform(0.5, 1, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, shapes)


def trees(**changes) -> dict:
    ours = variables()
    return {
        "online_params": dm_trees.params_of(ours.online_params),
        "target_params": dm_trees.params_of(ours.target_params),
        "online_state": dm_trees.state_of(ours.online_stats),
        "target_state": dm_trees.state_of(ours.target_stats),
    } | changes


def write(folder: Path, content: bytes) -> Path:
    path = folder / "file.pkl"
    path.write_bytes(content)
    return path


def assert_same(found: dict, expected: dict) -> None:
    found, expected = flat(found), flat(expected)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("style", assembler.STYLES)
def test_every_array_of_both_networks_is_found(tmp_path, style):
    path = write(tmp_path, assembler.checkpoint(trees(), style))
    found, ours = deepmind.load(path), variables()
    assert found.step == 7 and found.num_classes == tiny.CLASSES
    assert found.config.model == dm_trees.CONFIG.model
    optim = found.config.optim
    assert (optim.name, optim.tau_schedule, found.config.base_lr) == (
        "lars",
        "cosine",
        0.2,
    )
    assert (optim.weight_decay, optim.warmup_epochs, optim.tau_base) == (
        1.5e-6,
        10,
        0.996,
    )
    for name in ("online_params", "online_stats", "target_params", "target_stats"):
        assert_same(getattr(found, name), getattr(ours, name))


def test_the_first_convolution_may_have_a_number_in_its_name(tmp_path):
    renamed = trees()
    params = renamed["online_params"]
    stem = "res_net50/~/initial_conv"
    params[f"{stem}_1"] = params.pop(stem)
    found = deepmind.load(write(tmp_path, assembler.checkpoint(renamed)))
    assert_same(found.online_params, variables().online_params)


def test_only_the_encoders_arrays_are_needed(tmp_path):
    whole = trees(target_params={}, target_state={})
    for part in ("online_params", "online_state"):
        kept = {k: v for k, v in whole[part].items() if k.startswith("res_net50")}
        whole[part] = kept
    path = write(tmp_path, assembler.checkpoint(whole))
    deepmind.write_work_folder(path, tmp_path / "run")
    encoder = load_encoder(tmp_path / "run")
    assert_same(encoder.variables["params"], variables().online_params["encoder"])
    with pytest.raises(InputError, match="holds no target encoder"):
        load_encoder(tmp_path / "run", "target")


def test_the_command_writes_a_work_folder_and_prints_the_licence(tmp_path, capsys):
    path = write(tmp_path, assembler.checkpoint(trees()))
    main(["deepmind", str(path), "--workdir", str(tmp_path / "run")])
    assert "CC BY-NC 4.0" in capsys.readouterr().out
    source = json.loads((tmp_path / "run" / "source.json").read_text())
    assert "CC BY-NC 4.0" in source["source"]
    for network in ("online", "target"):
        encoder = load_encoder(tmp_path / "run", network)
        ours = getattr(variables(), f"{network}_stats")["encoder"]
        assert encoder.step == 7
        assert_same(encoder.variables["batch_stats"], ours)


def test_an_empty_path_is_no_folder(capsys):
    with pytest.raises(SystemExit):
        main(["deepmind", "x.pkl", "--workdir="])
    assert "the path is empty" in " ".join(capsys.readouterr().err.split())


def test_a_folder_in_use_is_left_alone(tmp_path):
    path = write(tmp_path, assembler.checkpoint(trees()))
    with pytest.raises(InputError, match="is not empty"):
        deepmind.write_work_folder(path, tmp_path)


@pytest.mark.parametrize(
    ("module", "arrays", "said"),
    [
        ("res_net50/~/block_group_1/~/block_9/~/conv_0", {"w": (1, 1, 4, 4)}, "absent"),
        ("res_net50/~/initial_conv", {"w": (7, 7, 4, 4)}, r"\(7, 7, 4, 4\)"),
        ("somewhere/else", {"w": (1,)}, "module 'somewhere/else'"),
        ("classifier", {"v": (1,)}, "parameter classifier/v"),
    ],
)
def test_another_network_is_refused_by_name(tmp_path, module, arrays, said):
    changed = trees()
    changed["online_params"][module] = {
        name: np.zeros(shape, np.float32) for name, shape in arrays.items()
    }
    path = write(tmp_path, assembler.checkpoint(changed))
    with pytest.raises(InputError, match=said):
        deepmind.write_work_folder(path, tmp_path / "run")


@pytest.mark.slow
def test_haikus_own_features_are_ours(tmp_path):
    """Set HAIKU_PYTHON to a Python that has dm-haiku and dill."""
    python = os.environ.get("HAIKU_PYTHON")
    if not python:
        pytest.skip("HAIKU_PYTHON names no Python with dm-haiku and dill")
    script = Path(__file__).parent / "haiku_file.py"
    subprocess.run([python, str(script), str(tmp_path)], check=True)
    deepmind.write_work_folder(tmp_path / "checkpoint.pkl", tmp_path / "run")
    encoder, theirs = load_encoder(tmp_path / "run"), np.load(tmp_path / "expected.npz")
    images = jnp.asarray(theirs["images"])
    features = jax.jit(encoder.module.apply)(encoder.variables, images)
    assert np.abs(features - theirs["features"]).max() < 3e-5
