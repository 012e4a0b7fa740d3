"""Runs on pictures that are no square photographs, from files to exported weights."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import runs
from byol_bnfree import load_encoder, parse_args, train
from byol_bnfree.data.sources import open_source
from byol_bnfree.evaluate import main as evaluate
from byol_bnfree.export import main as export
from byol_bnfree.interop.comparison import pictures
from byol_bnfree.training.saved_run import read_run

TILE = (16, 24)


def drawn(index: int, channels: int, dtype, size=TILE) -> np.ndarray:
    """Noise around a level of its class, another one in each channel."""
    rng = np.random.default_rng(index)
    level = np.arange(1, channels + 1) / (channels + 2) * (1 + index % 2)
    noise = rng.normal(level / 2, 0.1, (*size, channels))
    return (np.clip(noise, 0, 1) * np.iinfo(dtype).max).astype(dtype)


def bands(path: Path, index: int) -> None:
    """As of a satellite: 5 bands of 16 bits."""
    tifffile = pytest.importorskip("tifffile")
    pixels = drawn(index, 5, np.uint16)
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(path.with_suffix(".tif"), pixels, **options)


def stains(path: Path, index: int) -> None:
    """As of a microscope: 2 channels first, and sizes differ."""
    pixels = drawn(index, 2, np.uint8, (20 + index, 30))
    np.save(path.with_suffix(".npy"), np.moveaxis(pixels, -1, 0))


def spectra(path: Path, index: int) -> None:
    """16 channels, compressed."""
    np.savez_compressed(path.with_suffix(".npz"), drawn(index, 16, np.uint8))


SETS = {
    "bands": (bands, 5, "gn_ws", ()),
    "stains": (stains, 2, "bn", ()),
    "spectra": (spectra, 16, "gn_ws", ("--data.in-memory-gib=1e-9",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_a_set_goes_from_files_to_exported_weights(tmp_path, name, capsys):
    write, channels, norm, more = SETS[name]
    for index in range(40):
        folder = tmp_path / "set" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / str(index), index)
    workdir = str(tmp_path / "run")
    given = [f"--dataset=folder:{tmp_path}/set", f"--workdir={workdir}"]
    sizes = ["--data.image-size", *map(str, TILE), "--augment.measured"]
    config = parse_args([*runs.ARGUMENTS, *given, f"--norm={norm}", *sizes, *more])
    train(config)
    said = capsys.readouterr().out
    assert f"16x24x{channels}" in said and "that are not colours" in said
    assert "measured mean" in said
    run, data = read_run(Path(workdir))
    assert data.image_shape == (*TILE, channels) and len(run.augment.mean) == channels
    assert train(config)["steps"] == 4  # finished: the same settings are found again

    evaluate([f"--workdir={workdir}", "--protocol", "knn", "linear", "--batch-size=16"])
    rows = (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()
    assert len(rows) == 2 and "linear" in capsys.readouterr().out

    encoder, images = load_encoder(workdir), pictures(run)
    assert images.shape == (64, *TILE, channels)
    expected = jax.jit(encoder)(images[:4])
    for kind in ("safetensors", "stablehlo", "torch"):
        out = tmp_path / kind
        export([f"--workdir={workdir}", f"--format={kind}", f"--out={out}"] + NO_TORCH)
        read = load_encoder(out)
        np.testing.assert_allclose(
            jax.jit(read)(images[:4]), expected, rtol=1e-4, atol=1e-4
        )
        told = json.loads((out / "encoder.json").read_text())["preprocessing"]
        assert told["image_size"] == [*TILE] and told["channels"] == channels
        assert told["mean"] == [*run.augment.mean] and told["std"] == [*run.augment.std]
    assert len(open_source(run, "test")) == 4
    assert (tmp_path / "run" / "views.png").is_file()


NO_TORCH = ["--no-compare"]


def test_shapes_may_be_no_squares(tmp_path):
    arguments = [*runs.ARGUMENTS, "--data.image-size", "8", "20", "--data.channels=1"]
    config = parse_args([*arguments, f"--workdir={tmp_path}/run"])
    source = open_source(config, "train")
    assert source.image_shape == (8, 20, 1)
