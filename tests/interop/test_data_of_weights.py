"""Weights are measured on data that somebody named, and a line says on which."""

import dataclasses
from pathlib import Path

import files
import pytest
from safetensors.numpy import save_file
from test_foreign import resnet18, state_dict

from byol_bnfree import InputError, evaluate, load_encoder
from byol_bnfree.config import DataConfig
from byol_bnfree.embed import EmbedConfig, embed
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.data_of_weights import with_data
from byol_bnfree.export import main as export
from byol_bnfree.interop.facts import Facts
from byol_bnfree.interop.writing import Settings, write


def settings_of(workdir: Path, weights: Path, **fields):
    """The settings that a measurement reads its data by, and what was said."""
    config, said = EvaluateConfig(str(workdir), weights=str(weights), **fields), []
    found = with_data(load_encoder(weights), config, said.append)
    return found.config, said


@pytest.fixture
def run(tmp_path) -> Path:
    """Of other pictures than those of the files."""
    data = DataConfig(image_size=8, channels=1, white=4095.0, test_split="val")
    cfg = dataclasses.replace(files.config(), dataset="folder:PICTURES", data_dir="D")
    files.work_folder(tmp_path / "run", dataclasses.replace(cfg, data=data))
    return tmp_path / "run"


@pytest.mark.parametrize("kind", ["safetensors", "stablehlo"])
def test_the_run_in_the_work_folder_gives_the_data(tmp_path, run, kind):
    pytest.importorskip("flatbuffers")
    (tmp_path / "out").mkdir()
    write(files.encoder(files.config()), tmp_path / "out", Settings(kind))
    config, said = settings_of(run, tmp_path / "out")
    assert (config.dataset, config.data_dir) == ("folder:PICTURES", "D")
    assert (config.data.white, config.data.test_split) == (4095.0, "val")
    assert (config.data.image_size, config.data.channels) == (16, 3)  # the encoder's
    assert said == [f"data: folder:PICTURES, the data of the run in {run}"]
    assert settings_of(run, tmp_path / "out", dataset="shapes")[1] == []


@pytest.mark.parametrize("kind", ["safetensors", "stablehlo"])
def test_without_a_run_a_file_of_ours_names_its_data(tmp_path, kind):
    pytest.importorskip("flatbuffers")
    write(files.encoder(files.config()), tmp_path, Settings(kind))
    config, said = settings_of(tmp_path / "new", tmp_path)
    assert config.dataset == "shapes"
    assert said == ["data: shapes, the data set that the weights name"]


@pytest.mark.parametrize("place", ["folder:{}/photos", "folder:photos"])
def test_a_folder_in_a_file_is_not_looked_for_on_this_machine(
    tmp_path, monkeypatch, place
):
    """It is the folder of another machine, or the last part of its path."""
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    config = dataclasses.replace(files.config(), dataset=place.format(tmp_path))
    (tmp_path / "out").mkdir()
    write(files.encoder(config), tmp_path / "out", Settings("safetensors"))
    for measure in (
        lambda: settings_of(tmp_path / "new", tmp_path / "out"),
        lambda: embed(EmbedConfig(str(tmp_path / "out"))),
    ):
        with pytest.raises(InputError, match="does not say where the data.*--dataset"):
            measure()


def test_files_of_others_do_not_stand_for_the_generated_shapes(tmp_path, run):
    weights = tmp_path / "theirs.safetensors"
    save_file(state_dict(resnet18()), weights)
    with pytest.raises(InputError, match="does not say where the data.*give --dataset"):
        settings_of(tmp_path / "new", weights)
    with pytest.raises(InputError, match="give --dataset"):
        evaluate(EvaluateConfig(str(tmp_path / "new"), weights=str(weights)))
    with pytest.raises(InputError, match="does not say where the data"):
        embed(EmbedConfig(str(weights), out=str(tmp_path / "features.npz")))
    given = settings_of(tmp_path / "new", weights, dataset="cifar10")
    assert given[1] == []
    assert settings_of(run, weights)[0].dataset == "folder:PICTURES"


def test_an_export_of_others_weights_states_the_facts_but_no_data(tmp_path):
    """The way from a state dict to --init-from, which takes no facts."""
    encoder = files.encoder(files.config("bn", stem="small", stem_stride=2))
    weights, out = tmp_path / "lost.safetensors", tmp_path / "out"
    save_file(state_dict(encoder), weights)
    facts = ["--facts.padding=same", "--facts.stem-stride=2", "--facts.image-size=16"]
    export([f"--workdir={weights}", f"--out={out}", *facts])
    read = load_encoder(out)
    assert (read.config.model.padding, read.config.model.stem_stride) == ("same", 2)
    assert (read.config.data.image_size, read.step) == (16, 0)
    with pytest.raises(InputError, match="does not say where the data"):
        settings_of(tmp_path / "new", out)
    hub = [*facts, "--format=hub-folder", "--no-compare", f"--out={out}/hub"]
    export([f"--workdir={weights}", *hub])
    assert "| trained on | unknown data" in (out / "hub" / "README.md").read_text()


def test_embed_and_evaluate_take_the_facts(tmp_path):
    encoder = files.encoder(files.config("bn", stem="small", stem_stride=2))
    weights = tmp_path / "lost.safetensors"
    save_file(state_dict(encoder), weights)
    facts = Facts(padding="torch", stem_stride=1)
    config = EvaluateConfig(str(tmp_path), weights=str(weights), dataset="x")
    with pytest.raises(InputError, match="--facts.padding and --facts.stem-stride"):
        evaluate(config)
    with pytest.raises(InputError, match="data set x is not"):
        evaluate(dataclasses.replace(config, facts=facts))  # it is loaded
    with pytest.raises(InputError, match="--facts.padding and --facts.stem-stride"):
        embed(EmbedConfig(str(weights), "x"))
    with pytest.raises(InputError, match="data set x is not"):
        embed(EmbedConfig(str(weights), "x", facts=facts))
