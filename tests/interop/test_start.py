"""--init-from takes what fits, says what does not, and refuses another norm."""

import dataclasses
import json

import files
import jax
import numpy as np
import pytest

from byol_bnfree import InputError
from byol_bnfree.assembly import create_network
from byol_bnfree.interop.start import FIELDS, check_start, read_start
from byol_bnfree.interop.trees import flat
from byol_bnfree.interop.writing import Settings, write
from byol_bnfree.training.manifest import MANIFEST
from byol_bnfree.training.parts import DataShape, build_parts
from byol_bnfree.whole_run.inputs import begins_from_weights

SHAPE = DataShape(48, files.CLASSES, (files.SIZE, files.SIZE, 3))


def abstract(cfg):
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    state = build_parts(cfg, SHAPE).abstract_state
    return jax.tree.map(lambda leaf: leaf.update(sharding=device), state)


def start_of(path, cfg, **options):
    cfg = dataclasses.replace(cfg, init_from=str(path), **options)
    return read_start(cfg, abstract(cfg))


@pytest.mark.parametrize("norm", ["gn_ws", "bn"])
def test_a_work_folder_gives_both_networks_and_no_optimizer(tmp_path, norm):
    cfg = files.config(norm)
    fields = files.work_folder(tmp_path / "run", cfg)
    start = start_of(tmp_path / "run", cfg)
    state = jax.tree.map(lambda x: files.drawn(x, seed=1), abstract(cfg))
    begun = start.put_into(state)
    for name in FIELDS:
        for key, value in flat(getattr(begun, name)).items():
            np.testing.assert_array_equal(value, flat(fields[name])[key], err_msg=key)
    assert begun.opt_state is state.opt_state and begun.step is state.step
    online, target = (flat(getattr(begun, f"{n}_params")) for n in ("online", "target"))
    pointers = [x.unsafe_buffer_pointer() for x in (*online.values(), *target.values())]
    assert len({*pointers}) == len(pointers)  # the state is donated
    assert "taken: encoder (30 arrays), predictor (5 arrays)" in start.lines[1]


def test_an_encoder_file_leaves_the_heads_fresh_and_begins_the_target(tmp_path):
    cfg = files.config("bn")
    write(files.encoder(cfg), tmp_path, Settings("safetensors"))
    start = start_of(tmp_path, cfg)
    assert start.leaves["target_params"].keys() == start.leaves["online_params"].keys()
    assert "fresh, not in the file: predictor (5 arrays), probe (2" in start.lines[2]


def test_the_encoder_alone_can_be_taken(tmp_path):
    cfg = files.config()
    files.work_folder(tmp_path / "run", cfg)
    start = start_of(tmp_path / "run", cfg, init_from_part="encoder")
    assert all(key.startswith("encoder/") for key in start.leaves["online_params"])


def test_another_norm_is_refused_unless_asked_for(tmp_path):
    files.work_folder(tmp_path / "run", files.config("bn"))
    cfg = files.config("gn_ws")
    with pytest.raises(InputError, match="has norm bn, .* --init-from-other-norm"):
        start_of(tmp_path / "run", cfg)
    taken = start_of(tmp_path / "run", cfg, init_from_other_norm=True)
    assert len(taken.leaves["online_params"]) == 42


def test_settings_that_give_arrays_another_meaning_are_named(tmp_path):
    cfg = files.config("gn_ws", padding="bit", groups=8, unit_kernels=True)
    write(files.encoder(cfg), tmp_path, Settings("safetensors"))
    assert not [x for x in start_of(tmp_path, cfg).lines if "in this run" in x]
    lines = start_of(tmp_path, files.config("gn_ws")).lines
    assert lines[-3:] == (
        "--model.padding is bit in the file and same in this run",
        "--model.groups is 8 in the file and 16 in this run",
        "--model.unit-kernels is True in the file and False in this run",
    )
    pixels = dataclasses.replace(cfg.augment, mean=(0.5, 0.5, 0.5))
    lines = start_of(tmp_path, dataclasses.replace(cfg, augment=pixels)).lines
    said = "--augment.mean is 0.485 0.456 0.406 in the file and 0.5 0.5 0.5 in this run"
    assert lines[-1] == said
    bn = dataclasses.replace(files.config("bn"), init_from_other_norm=True)
    lines = start_of(tmp_path, bn).lines  # it has no groups, and standardizes nothing
    assert [line for line in lines if "--model" in line] == [lines[-1]]


def test_what_does_not_fit_is_fresh_and_named(tmp_path):
    files.work_folder(tmp_path / "run", files.config())
    start = start_of(tmp_path / "run", files.config(stem="small"))
    assert "did not fit: encoder/conv1/kernel is (7, 7, 3, 16)" in start.lines[2]
    with pytest.raises(InputError, match="no encoder array in .* fits"):
        start_of(tmp_path / "run", files.config(width=0.5))


def test_a_run_with_groups_of_statistics_can_be_a_start(tmp_path):
    cfg = files.config("bn")
    files.work_folder(tmp_path / "run", cfg)
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    saved |= {"bn_stat_groups": 4}
    (tmp_path / "run" / "config.json").write_text(json.dumps(saved))
    assert "taken: encoder (30 arrays)" in start_of(tmp_path / "run", cfg).lines[1]


def test_a_run_on_one_class_has_no_probe_and_can_be_a_start(tmp_path):
    cfg = files.config()
    network = create_network(cfg, None)
    images = jax.ShapeDtypeStruct((2, *SHAPE.image_shape), np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    fields = files.drawn(shapes)._asdict()
    run = tmp_path / "run"
    files.write_work_folder(
        run, cfg, fields, step=5, num_classes=1, examples=48, source="random."
    )
    assert "fresh, not in the file: probe (2 arrays)" in start_of(run, cfg).lines


def test_weights_and_data_dependent_initialization_exclude_each_other(tmp_path):
    config = files.config("none")
    config = dataclasses.replace(config, init="data_dependent", init_from=str(tmp_path))
    with pytest.raises(InputError, match="leave out one of them"):
        check_start(config)


def test_a_start_may_be_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    files.work_folder(tmp_path / "run", files.config())
    assert start_of("~/run", files.config()).leaves["online_params"]


def test_only_a_committed_checkpoint_replaces_the_start(tmp_path):
    cfg = dataclasses.replace(files.config(), init_from="x", workdir=str(tmp_path))
    assert begins_from_weights(cfg)
    folder = tmp_path / "checkpoints" / "4"
    folder.mkdir(parents=True)  # as a kill during the first save leaves it
    assert begins_from_weights(cfg)
    (folder / MANIFEST).write_text("{}")
    assert not begins_from_weights(cfg)
