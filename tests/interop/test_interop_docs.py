"""The examples of docs/interop.md run as they stand there."""

import re
import subprocess
from pathlib import Path

import files
import jax
import pytest

ROOT = Path(__file__).parents[2]


def example(name: str) -> str:
    page = (ROOT / "docs" / "interop.md").read_text()
    return re.search(rf"<!-- test: {name} -->\n```python\n(.*?)```", page, re.S)[1]


@pytest.mark.parametrize("name", ["torch", "nnx"])
def test_examples_have_ten_lines(name):
    lines = [line for line in example(name).splitlines() if line.strip()]
    assert len(lines) <= 10


def test_a_shipped_encoder_serves_a_pytorch_program():
    command = [files.torch_python(), "-c", example("torch")]
    subprocess.run(command, check=True, cwd=ROOT)


def test_a_shipped_encoder_serves_an_nnx_program():
    names: dict = {}
    # The example is text of this repository.
    exec(example("nnx"), names)
    assert names["loss"].shape == () and "gradient" in names


@pytest.mark.slow
def test_a_shipped_encoder_is_fine_tuned_in_linen():
    names: dict = {}
    exec(example("linen"), names)
    before, after = names["encoder"].variables["params"], names["params"]["encoder"]
    assert names["loss"] < names["loss_of"](
        {"encoder": before, "head": names["params"]["head"]}
    )
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    assert all(jax.tree.leaves(moved))
