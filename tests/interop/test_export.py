"""An exported encoder computes the same, and says how far it is from that."""

import dataclasses
import errno
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byol_bnfree import InputError, RunStopped, load_encoder
from byol_bnfree.config import DataConfig, HeadConfig, RunConfig, TrainConfig
from byol_bnfree.encoder import encoder_module
from byol_bnfree.export import ExportConfig
from byol_bnfree.files import write_json
from byol_bnfree.interop import exporting, hub, writing
from byol_bnfree.interop.comparison import Comparison, compared, pictures
from byol_bnfree.interop.description import describe, to_config
from byol_bnfree.interop.exporting import export, origin_of
from byol_bnfree.interop.folding import alone, folded
from byol_bnfree.interop.hub import load_pretrained, public, write_hub_folder
from byol_bnfree.interop.names import from_torch, to_torch
from byol_bnfree.interop.trees import flat
from byol_bnfree.interop.writing import (
    Settings,
    check_family,
    save_weights,
    with_program,
    write,
)
from byol_bnfree.saved_config import config_from_dict

NORMS = ("gn_ws", "bn", "ws", "ln")
RESNET50 = {"name": "resnet50", "width": 0.25, "stem": "imagenet"}


@pytest.mark.parametrize("norm", NORMS)
def test_our_file_holds_the_same_arrays(tmp_path, norm):
    encoder = files.encoder(files.config(norm))
    (found,) = write(encoder, tmp_path, Settings("safetensors"))
    weights, description = (
        tmp_path / name for name in ("encoder.safetensors", "encoder.json")
    )
    assert weights.stat().st_mode == description.stat().st_mode  # others may read both
    assert found.largest == 0
    read = load_encoder(tmp_path)
    assert read.step == 5 and read.config.norm == norm
    assert read.config.augment == encoder.config.augment
    expected = flat(encoder.variables)
    for name, value in flat(read.variables).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


V2 = {"name": "resnet8v2"}
UNIT = V2 | {"unit_kernels": True}
FOLDED = [(norm, {}) for norm in NORMS] + [("gn_ws", V2), ("gn_ws", UNIT), ("bn", V2)]


@pytest.mark.parametrize("norm, model", FOLDED)
def test_folded_weights_give_the_same_features(norm, model):
    encoder = files.encoder(files.config(norm, **model))
    images = pictures(encoder.config)[:4]
    plain = alone(encoder.config, plain=True)
    assert plain.norm == {"gn_ws": "gn", "ws": "none"}.get(norm, norm)
    module = files.encoder(plain).module
    pixels = encoder._pixels(images)
    variables = folded(encoder.variables, encoder.config)
    theirs = module.apply(variables, pixels, False)
    assert compared(encoder(images), theirs, "").relative < 1e-5


@pytest.mark.parametrize("name", ["resnet50", "resnet50v2"])
@pytest.mark.parametrize("family", ["torchvision", "timm"])
def test_every_name_goes_there_and_back(family, name):
    encoder = files.encoder(files.config("bn", **(RESNET50 | {"name": name})))
    leaves = {kind: flat(tree) for kind, tree in encoder.variables.items()}
    ours = [f"{kind}/{name}" for kind, tree in leaves.items() for name in tree]
    theirs = [to_torch(name.partition("/")[2], family) for name in ours]
    assert len({*theirs}) == len(ours)
    assert [from_torch(name, family) for name in theirs] == ours
    assert from_torch("fc.weight", family) == from_torch("head.fc.weight", family) == ""


@pytest.mark.parametrize("norm", ["gn_ws", "bn"])
def test_a_program_takes_any_batch_and_serves_three_platforms(tmp_path, norm):
    pytest.importorskip("flatbuffers")
    encoder = files.encoder(files.config(norm))
    (found,) = write(encoder, tmp_path, Settings("stablehlo"))
    assert found.relative < 1e-5
    read, images = load_encoder(tmp_path), pictures(encoder.config)
    assert read.module._program.platforms == ("cpu", "cuda", "tpu")
    for count in (1, 3):
        one = compared(encoder(images[:count]), read(images[:count]), "")
        assert one.relative < 1e-5
    with pytest.raises(InputError, match="neither be trained"):
        read.feature_maps(images)
    with pytest.raises(InputError, match=r"\(8, 16, 3\), but .* takes \(16, 16, 3\)"):
        read(images[:, ::2])
    with pytest.raises(InputError, match="is no Flax module"):
        read.to_nnx()


def stand_in(kind, path, images, python):
    """Features in float32, as PyTorch would compute them."""
    read = load_encoder(path)
    module = encoder_module(dataclasses.replace(read.config, compute_dtype="float32"))
    return dataclasses.replace(read, module=module)(images), "a stand-in for torch"


@pytest.mark.parametrize("kind", ["safetensors", "stablehlo", "torch", "hub-folder"])
@pytest.mark.parametrize("own, here", [("bfloat16", "float32"), ("auto", "bfloat16")])
def test_an_export_is_in_float32_whatever_the_run_or_the_device_computes_in(
    tmp_path, monkeypatch, kind, own, here
):
    pytest.importorskip("flatbuffers")
    monkeypatch.setattr("byol_bnfree.machine.precision.fast_dtype", lambda device: here)
    for module in (writing, hub):
        monkeypatch.setattr(module, "check_python", lambda *_: None)
    monkeypatch.setattr(writing, "features_in_torch", stand_in)
    run, out = tmp_path / "run", tmp_path / "out"
    files.work_folder(run, dataclasses.replace(files.config(), compute_dtype=own))
    assert load_encoder(run).module.dtype == jnp.bfloat16
    lines = list(export(ExportConfig(str(run), kind, out=str(out))))
    assert any("pictures" in line for line in lines)
    if kind == "stablehlo":
        program = load_encoder(out).module._program.mlir_module()
        assert "bf16" not in program and "HIGHEST" in program


@pytest.mark.parametrize("what", ["nan", "far", "shape"])
def test_a_wrong_export_fails(what):
    ours = np.ones((4, 3), np.float32)
    theirs = {"nan": ours * np.nan, "far": ours + 1e-3, "shape": ours[:, :2]}[what]
    with pytest.raises(RunStopped, match="do not use the files"):
        compared(ours, theirs, "a test").check()
    Comparison(1e-6, 1.0, "a test").check()


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"names": "timm", "format": "torch"}, ["--names"]),
        ({"name": "mine"}, ["--name"]),
        ({"names": "timm"}, []),
        ({"name": "mine", "format": "hub-folder"}, []),
    ],
)
def test_what_an_export_does_not_read_is_named(fields, said, tmp_path):
    lines = export(ExportConfig(str(tmp_path / "none"), **fields))
    found = []
    with pytest.raises(InputError):  # there is no run
        found.extend(lines)
    assert [line.split()[1] for line in found] == said


def test_features_that_are_all_zero_are_compared_too():
    zeros = np.zeros((2, 3))
    compared(zeros, zeros, "a test").check()
    with pytest.raises(RunStopped, match="by inf of the largest feature"):
        compared(zeros, zeros + 1, "a test").check()


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_a_tolerance_that_bounds_nothing_is_refused(tolerance):
    with pytest.raises(InputError, match="--tolerance is .* zero or more"):
        ExportConfig("run", tolerance=tolerance)


@pytest.mark.parametrize("name", ["out", "name", "licence", "python"])
def test_an_empty_text_is_no_setting_of_an_export(name):
    with pytest.raises(
        InputError, match=f"--{name} is ''; it must be a non-empty text"
    ):
        ExportConfig("run", **{name: ""})


@pytest.mark.parametrize("content", ['{"source": "Ours. M', "[]", "{}"])
def test_a_damaged_record_of_the_source_is_refused_in_a_sentence(content, tmp_path):
    (tmp_path / "source.json").write_text(content)
    with pytest.raises(InputError, match="source.json .*; restore it"):
        origin_of(tmp_path, None)


@pytest.mark.parametrize(
    ("family", "norm", "model", "problem"),
    [
        ("torchvision", "ws", {"name": "resnet50"}, "norm none"),
        ("torchvision", "bn", {"name": "resnet50", "width": 2.0}, "width 2"),
        ("torchvision", "bn", {"name": "resnet18"}, "projection in the first block"),
        ("torchvision", "bn", {}, "stages of resnet8"),
        ("torchvision", "bn", {"name": "resnet50v2"}, "pre-activation blocks"),
        ("timm", "bn", {"name": "resnet8v2"}, "stages of resnet8v2"),
        ("timm", "bn", {"name": "resnet18v2"}, "projection in the first block"),
        ("timm", "gn_ws", {"name": "resnet50v2", "stem": "small"}, "a small stem"),
        ("timm", "bn", {"name": "resnet18"}, "basic blocks"),
        ("timm", "gn", {"name": "resnet50", "stem": "small"}, "a small stem"),
    ],
)
def test_what_others_do_not_have_is_refused(family, norm, model, problem):
    with pytest.raises(InputError, match=f"{family} has no ResNet with .*{problem}"):
        check_family(files.config(norm, **model), family)
    check_family(files.config("gn_ws", name="resnet50"), family)


IN_TORCH = [(norm, {}) for norm in ("gn_ws", "bn", "none", "ln")]
IN_TORCH += [("bn", V2), ("gn_ws", V2), ("gn_ws", UNIT | {"padding": "bit"})]


@pytest.mark.parametrize("norm, model", IN_TORCH)
def test_the_torch_program_computes_the_same(tmp_path, norm, model):
    settings = Settings("torch", python=files.torch_python())
    (found,) = write(files.encoder(files.config(norm, **model)), tmp_path, settings)
    assert found.relative < 1e-5 and "torch" in found.other


SAVES = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from encoder import load_encoder
torch.save(load_encoder().state_dict(), sys.argv[1] + "/state.pth")
"""


@pytest.mark.parametrize("norm", ["gn_ws", "bn"])
def test_a_state_dict_of_the_torch_program_is_the_same_encoder(tmp_path, norm):
    model = {"stem": "small", "stem_stride": 2} | (UNIT if norm == "gn_ws" else {})
    encoder, python = files.encoder(files.config(norm, **model)), files.torch_python()
    write(encoder, tmp_path, Settings("torch"))
    subprocess.run([python, "-c", SAVES, str(tmp_path)], check=True)
    images = pictures(encoder.config)[:4]
    read = load_encoder(tmp_path / "state.pth")
    assert compared(encoder(images), read(images), "read").relative < 1e-5


@pytest.mark.parametrize("model", [{}, UNIT])
def test_the_torch_program_standardizes_as_the_encoder(tmp_path, model):
    """In a hub folder, kernels stay as they are trained."""
    encoder = files.encoder(files.config("gn_ws", **model))
    path = tmp_path / "model.safetensors"
    save_weights(encoder, path, "torchvision", {}, plain=False)
    (found,) = with_program(encoder, path, files.torch_python())
    assert found.relative < 1e-5
    read = load_encoder(path)
    images = pictures(encoder.config)[:4]
    np.testing.assert_array_equal(read(images), encoder(images))
    assert read.config.model.unit_kernels == bool(model)


def test_a_description_of_an_older_version_is_read():
    cfg = files.config("gn_ws")
    old = describe(cfg, family="byol_bnfree", step=1)
    del old["network"]["unit_kernels"]
    assert to_config(old).model == dataclasses.replace(
        cfg.model, projector=HeadConfig(512, 128), predictor=HeadConfig(512, 128)
    )


def test_a_description_keeps_how_pictures_become_pixels():
    data = DataConfig(8, 3, white=4095.0, alpha="ignore", max_pixels=1000)
    cfg = dataclasses.replace(files.config("gn_ws"), data=data)
    made = describe(cfg, family="byol_bnfree", step=1)
    assert to_config(made).data == data
    for name in ("white", "alpha", "max_pixels"):  # an older version wrote none
        del made["preprocessing"][name]
    assert to_config(made).data == DataConfig(8, 3)


@pytest.mark.parametrize("share", [1.0, 0.875])
def test_the_crop_in_a_description_is_that_of_the_run(tmp_path, share):
    write_json(tmp_path / "dataset.json", {"crop_share": share})
    found = origin_of(tmp_path, "mit")
    assert (found["crop_share"], found["licence"]) == (share, "mit")
    file = tmp_path / "again" / "model.safetensors"
    file.parent.mkdir()
    cfg = files.config()
    save_weights(files.encoder(cfg), file, "byol_bnfree", found, plain=False)
    assert origin_of(file, None) == found


@pytest.mark.parametrize("padding", ["torch", "solo_learn"])
def test_the_torch_program_pads_as_the_encoder(tmp_path, padding):
    settings = Settings("torch", python=files.torch_python())
    encoder = files.encoder(files.config("bn", padding=padding, stem="small"))
    (found,) = write(encoder, tmp_path, settings)
    assert found.relative < 1e-5


THEIRS = [
    ("resnet50", names, norm, padding)
    for names in ("torchvision", "timm")
    for norm in ("gn_ws", "bn")
    for padding in ("same", "torch")
]
THEIRS += [("resnet50v2", "timm", "bn", p) for p in ("same", "torch", "bit")]
THEIRS += [("resnet50v2", "timm", "gn_ws", "bit"), ("resnet18v2", "timm", "bn", "bit")]


@pytest.mark.slow
@pytest.mark.parametrize("name, names, norm, padding", THEIRS)
def test_exported_weights_run_in_torchvision_and_timm(
    tmp_path, name, names, norm, padding
):
    python = files.torch_python(names)
    shortcuts = "changed_shape" if name == "resnet18v2" else "every_group"
    cfg = files.config(norm, name=name, padding=padding, shortcuts=shortcuts)
    settings = Settings("safetensors", names, python)
    both = write(files.encoder(cfg), tmp_path, settings)
    print(*both, sep="\n")
    assert len(both) == 2 and all(found.relative < 1e-5 for found in both)


def exported(workdir: Path, **options) -> list[str]:
    return list(export(ExportConfig(str(workdir), compare=False, **options)))


def test_the_command_writes_into_the_work_folder(tmp_path):
    files.work_folder(tmp_path / "run", files.config())
    lines = exported(tmp_path / "run")
    folder = tmp_path / "run" / "export" / "byol_bnfree"
    assert lines[-1] == str(folder) and "largest difference 0.0e+00" in lines[0]
    description = json.loads((folder / "encoder.json").read_text())
    assert description["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert description["licence"] == "apache-2.0"
    target = load_encoder(tmp_path / "run", "target")
    exported(tmp_path / "run", network="target", out=str(tmp_path / "target"))
    images = pictures(target.config)[:2]
    np.testing.assert_array_equal(
        load_encoder(tmp_path / "target")(images), target(images)
    )


@pytest.mark.parametrize(
    "options",
    [
        *({"format": kind, "python": "/no"} for kind in ("torch", "hub-folder")),
        {"format": "torch", "python": sys.executable},
        {"names": "timm", "python": sys.executable},
    ],
)
def test_a_refused_export_writes_nothing(tmp_path, options, monkeypatch):
    if importlib.util.find_spec("torch"):
        pytest.skip("this Python has torch")
    encoder = files.encoder(files.config())
    monkeypatch.setattr(exporting, "load_encoder", lambda *_, **__: encoder)
    monkeypatch.setattr(exporting, "read_run", lambda _: (encoder.config, None))
    write_json(tmp_path / "dataset.json", {})
    config = ExportConfig(str(tmp_path), out=str(tmp_path / "out"), **options)
    with pytest.raises(InputError, match="give --python|use --format=torch"):
        list(export(config))
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    with pytest.raises(InputError):
        list(export(config))
    assert (tmp_path / "out" / "mine").read_text() == "kept"


@pytest.mark.parametrize("kind", ["safetensors", "hub-folder", "stablehlo"])
def test_a_run_is_no_place_for_an_export(tmp_path, kind):
    files.work_folder(tmp_path / "run", files.config())
    before = {path.name for path in (tmp_path / "run").iterdir()}
    with pytest.raises(InputError, match="is the work folder of a run"):
        exported(tmp_path / "run", format=kind, out=str(tmp_path / "run"))
    assert {path.name for path in (tmp_path / "run").iterdir()} == before


def test_weights_in_the_folder_of_a_run_do_not_take_it_over(tmp_path):
    files.work_folder(tmp_path / "run", files.config())
    other = dataclasses.replace(files.encoder(files.config("bn")), step=1)
    write(other, tmp_path / "run", Settings("safetensors"))
    read = load_encoder(tmp_path / "run")
    assert (read.step, read.config.norm) == (5, "gn_ws")


def test_a_hub_folder_can_be_written_again_from_itself(tmp_path):
    files.work_folder(tmp_path / "run", files.config())
    (tmp_path / "run" / "curves.png").write_bytes(b"drawn")
    folder = tmp_path / "hub"
    for source in (tmp_path / "run", folder):
        exported(source, format="hub-folder", out=str(folder))
        assert (folder / "curves.png").read_bytes() == b"drawn"
    assert load_encoder(folder).step == 5


@pytest.mark.parametrize("kind", ["safetensors", "stablehlo"])
def test_no_file_of_ours_gives_the_online_encoder_as_the_target(tmp_path, kind):
    pytest.importorskip("flatbuffers")
    write(files.encoder(files.config()), tmp_path, Settings(kind))
    assert load_encoder(tmp_path, "online").step == 5
    with pytest.raises(InputError, match="holds one encoder, the online one"):
        load_encoder(tmp_path, "target")


@pytest.mark.parametrize("kind", ["safetensors", "stablehlo"])
def test_a_full_disk_leaves_the_last_export_whole(tmp_path, kind, monkeypatch):
    pytest.importorskip("flatbuffers")
    encoder = files.encoder(files.config())
    write(encoder, tmp_path, Settings(kind))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("byol_bnfree.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(dataclasses.replace(encoder, step=6), tmp_path, Settings(kind))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_hub_folder_is_complete_and_shipped_weights_are_read(tmp_path, monkeypatch):
    fields = files.work_folder(tmp_path / "run", files.config())
    summary = {"knn": {"untrained": 0.25, "trained": 0.5}, "linear": {"trained": None}}
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary))
    exported(tmp_path / "run", format="hub-folder", out=str(tmp_path / "weights/mine"))
    folder = tmp_path / "weights" / "mine"
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "| knn, trained encoder | 50.00 % |" in card and "not checked" in card
    config = json.loads((folder / "config.json").read_text())
    assert config["network"]["norm"] == "gn_ws"
    monkeypatch.setattr("byol_bnfree.interop.hub.weights_folder", lambda: folder.parent)
    encoder = load_pretrained("mine")
    kernel = encoder.variables["params"]["conv1"]["kernel"]
    expected = fields["online_params"]["encoder"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, expected)
    folder.rename(folder.with_name("mine-seed0"))
    kernel = load_pretrained("mine").variables["params"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, expected)
    folder.with_name("mine-seed0").rename(folder)
    with pytest.raises(InputError, match="'other' ship .* choose one of: mine"):
        load_pretrained("other")


@pytest.mark.parametrize("figures", [3, "high", [0.5], None])
def test_figures_of_another_form_are_left_out_of_a_card(figures, tmp_path):
    summary = {"knn": figures, "linear": {"trained": 0.5}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert hub.figures_of(tmp_path) == {"linear, trained encoder": 0.5}


def test_a_target_encoder_is_not_given_the_figures_of_the_online_one(tmp_path):
    files.work_folder(tmp_path, files.config())
    summary = {"knn": {"untrained": 0.25, "trained": 0.5}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "curves.png").write_bytes(b"")
    encoder, out = files.encoder(files.config()), tmp_path / "out"
    out.mkdir()
    origin = origin_of(tmp_path, None, "target")
    write_hub_folder(encoder, tmp_path, out, Settings("hub-folder", origin=origin))
    card = (out / "README.md").read_text()
    assert "50.00 %" not in card and "curves.png" not in card
    assert "resnet8-gn_ws-seed0-target" in card and "of the target network" in card
    assert json.loads((out / "config.json").read_text())["encoder"] == "target"
    for network in ("target", "online"):  # the only one that there is
        assert load_encoder(out, network).step == 5


def test_shipped_names_cannot_leave_their_folder():
    with pytest.raises(InputError, match="ship with this version"):
        load_pretrained("../weights")


def test_an_encoder_maps_and_stages_and_is_an_nnx_module():
    encoder = files.encoder(files.config("bn"))
    images = pictures(encoder.config)[:3]
    expected = encoder(images)
    mapped = jax.vmap(lambda image: encoder(image[None])[0])(images)
    maps, pooled = encoder.feature_maps(images)
    assert [m.shape[1:] for m in maps] == [(4, 4, 16), (2, 2, 32), (1, 1, 64)]
    for found in (mapped, pooled, jax.jit(encoder.feature_maps)(images)[1]):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    wrapped = encoder.to_nnx()(encoder._pixels(images))
    np.testing.assert_allclose(wrapped, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["safetensors", "torch", "stablehlo", "hub-folder"])
def test_an_own_encoder_is_not_exported(tmp_path, kind):
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    own = dataclasses.replace(files.config(), encoder="given:Mine")
    write_json(run / "config.json", dataclasses.asdict(own))
    data = {"train": {"images": 48}, "num_classes": 3, "image_shape": [16, 16, 3]}
    write_json(run / "dataset.json", data)
    config = ExportConfig(str(run), kind, out=str(out))
    with pytest.raises(InputError, match="this run has its own encoder; use load_enc"):
        list(export(config))
    assert not out.exists()


def test_folders_may_be_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    files.work_folder(tmp_path / "run", files.config())
    assert list(export(ExportConfig("~/run", out="~/out")))
    assert (tmp_path / "out" / "encoder.safetensors").is_file()
    assert load_encoder("~/out").step == 5


def test_published_settings_name_no_place_of_the_machine():
    run = RunConfig(compilation_cache="/home/me/cache", wandb="secret", keep=7)
    own = dataclasses.replace(
        files.config(), run=run, workdir="/home/me/run", dataset="folder:/home/me/x"
    )
    found = public(dataclasses.asdict(own))
    assert "/home" not in json.dumps(found) and "secret" not in json.dumps(found)
    assert found["run"]["keep"] == 7
    assert config_from_dict(TrainConfig, found).run.keep == 7
