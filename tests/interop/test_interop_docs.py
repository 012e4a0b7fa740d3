"""The examples of docs/interop.md run as they stand there."""

import re
import subprocess
from pathlib import Path

import files
import pytest

from byol_bnfree.export import ExportConfig
from byol_bnfree.interop.exporting import export

ROOT = Path(__file__).parents[2]
NAME = "cifar10-resnet8-gn_ws-seed0"


def example(name: str) -> str:
    page = (ROOT / "docs" / "interop.md").read_text()
    return re.search(rf"<!-- test: {name} -->\n```python\n(.*?)```", page, re.S)[1]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Path:
    """A folder that holds `weights/NAME`, of random weights."""
    root = tmp_path_factory.mktemp("docs")
    files.work_folder(root / "run", files.config(stem="small"))
    out = str(root / "weights" / NAME)
    config = ExportConfig(str(root / "run"), "hub-folder", out=out, compare=False)
    list(export(config))
    return root


@pytest.mark.parametrize("name", ["torch", "nnx"])
def test_examples_have_ten_lines(name):
    lines = [line for line in example(name).splitlines() if line.strip()]
    assert len(lines) <= 10


def test_an_encoder_serves_a_pytorch_program(shipped):
    command = [files.torch_python(), "-c", example("torch")]
    subprocess.run(command, check=True, cwd=shipped)


def test_an_encoder_serves_an_nnx_program(shipped, monkeypatch):
    monkeypatch.setattr(
        "byol_bnfree.interop.hub.weights_folder", lambda: shipped / "weights"
    )
    names: dict = {}
    # The example is text of this repository.
    exec(example("nnx"), names)
    assert names["loss"].shape == () and "gradient" in names
