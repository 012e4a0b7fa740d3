"""The encoders in weights/ are read offline, in a checkout and when installed."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import files
import jax
import numpy as np
import pytest

from byol_bnfree import load_pretrained
from byol_bnfree.interop.comparison import compared, features_in_torch, pictures
from byol_bnfree.interop.hub import pretrained_names
from byol_bnfree.settings.norms import part_norms

ROOT = Path(__file__).parents[2]
NAMES = pretrained_names()


def test_both_arms_are_there_with_the_same_seeds():
    seeds = {
        arm: {n[-5:] for n in NAMES if n.startswith(f"cifar10-resnet14-{arm}-seed")}
        for arm in ("bn", "gn_ws")
    }
    assert seeds["bn"] == seeds["gn_ws"] == {"seed0", "seed1", "seed2"}


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_encoder_is_small_complete_and_its_norms_own(name):
    folder = ROOT / "weights" / name
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1e6
    assert (folder / "curves.png").is_file() and (folder / "encoder.py").is_file()
    card = (folder / "README.md").read_text()
    figures = json.loads((folder / "summary.json").read_text())
    assert (
        f"linear, trained encoder | {100 * figures['linear']['trained']:.2f} %" in card
    )
    encoder = load_pretrained(name)
    assert part_norms(encoder.config)["encoder"] == name.split("-")[2]


@pytest.mark.parametrize("name", NAMES)
def test_the_pytorch_program_is_todays(name):
    program = ROOT / "byol_bnfree" / "interop" / "for_torch" / "encoder.py"
    assert (ROOT / "weights" / name / "encoder.py").read_text() == program.read_text()


@pytest.mark.parametrize("name", NAMES[:1] + NAMES[-1:])
def test_a_shipped_encoder_tells_pictures_apart(name):
    encoder = load_pretrained(name)
    features = jax.jit(encoder)(pictures(encoder.config)[:8])
    assert features.shape == (8, 64) and np.isfinite(features).all()
    assert np.std(features, axis=0).mean() > 0.05


@pytest.mark.parametrize("name", NAMES)
def test_shipped_files_name_no_place_of_a_machine(name):
    for path in (ROOT / "weights" / name).glob("*.*"):
        content = path.read_bytes()
        for place in (b"/work", b"/home", b"/root", b"/tmp", b"/mnt"):
            assert place not in content, path
    run = json.loads((ROOT / "weights" / name / "run.json").read_text())
    assert run["dataset"] == "cifar10" and "workdir" not in run


@pytest.mark.parametrize("name", NAMES[:1] + NAMES[-1:])
def test_a_shipped_encoder_computes_the_same_in_torch(name):
    encoder = load_pretrained(name)
    images = pictures(encoder.config)
    weights = ROOT / "weights" / name / "model.safetensors"
    theirs = features_in_torch("torch", weights, images, files.torch_python())
    assert compared(np.asarray(jax.jit(encoder)(images)), *theirs).relative < 1e-5


def test_an_installed_package_reads_its_own_copy(tmp_path):
    """Laid out as the wheel, whose list of folders is read here too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"]["weights"] == "byol_bnfree/weights"
    shutil.copytree(ROOT / "byol_bnfree", tmp_path / "byol_bnfree")
    shutil.copytree(ROOT / "weights", tmp_path / "byol_bnfree/weights")
    program = (
        "import byol_bnfree as b; print(b.__file__); "
        f"print(b.load_pretrained({NAMES[0]!r}).step)"
    )
    command = [sys.executable, "-c", program]
    environment = {"PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu", "PATH": ""}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.stdout.split() == [str(tmp_path / "byol_bnfree/__init__.py"), "3125"]


IN_TORCH = """
import json, torch
from encoder import check, load_encoder

pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
expected, given = load_encoder()(pixels), pixels / 255
wrong = [pixels.long(), pixels.float(), given - 1, given / 0, given[0], given[:0]]
wrong += [pixels.permute(0, 2, 3, 1), given[:, :1], pixels.numpy()]
said = []
for images in wrong:
    try:
        load_encoder()(images)
    except ValueError as error:
        said.append(str(error))
try:
    check(given[:, 0], 1)
except ValueError as error:
    said.append(str(error))
differences = []
for dtype in (torch.float64, torch.float16):
    found = load_encoder().to(dtype)(pixels)
    assert found.dtype == dtype
    differences.append(float((found - expected).abs().max() / expected.abs().max()))
torch.func.vmap(load_encoder())(given[:, None])
torch.compile(load_encoder(), fullgraph=True, backend="eager")(given)
print(json.dumps([said, differences]))
"""
REFUSED = [
    "images are torch.int64; give uint8 pixels",
    "images are floats from 0 to 255; give floats from 0 to 1",
    "images are floats from -1 to 0; give",
    "images hold NaN or infinity; give",
    "images have shape (3, 32, 32); give a batch [b c h w]",
    "images have shape (0, 3, 32, 32); give a batch [b c h w]",
    "images have 32 channels in their second axis",
    "images have 1 channel in their second axis",
    "images are a ndarray; give a torch.Tensor.",
    "images have shape (2, 32, 32); give a batch [b c h w] of at least one image "
    "(images[:, None] gives gray ones their channel)",
]


@pytest.mark.slow
def test_the_pytorch_program_refuses_what_the_encoder_refuses_in_every_precision():
    done = subprocess.run(
        [files.torch_python(), "-W", "ignore", "-B", "-c", IN_TORCH],
        capture_output=True,
        text=True,
        cwd=ROOT / "weights" / NAMES[-1],
    )
    assert done.returncode == 0, done.stderr
    said, differences = json.loads(done.stdout)
    for message, start in zip(said, REFUSED, strict=True):
        assert message.startswith(start)
    assert differences[0] < 1e-5 and differences[1] < 0.01
