"""The documentation agrees with the package: links, flags, names, the notebook."""

import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import byol_bnfree
import tiny
from byol_bnfree import evaluation
from byol_bnfree.config import OptimConfig, TrainConfig
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.settings.names import NORMS
from byol_bnfree.training.parts import views_of_step_0
from byol_bnfree.verify import CLAIMS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
GENERATED = "experiments/"  # pages that the site's hook draws
OF_OTHERS = {  # flags of programs that are not ours, or that argparse makes
    *("nodes", "ntasks-per-node", "gpus-per-node", "strict", "help", "version"),
    *("site-dir", "quiet", "only-binary"),
}


def links(page: Path) -> list[str]:
    """Targets of relative links, without their anchors."""
    found = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    return [x for x in found if not re.match(r"https?:|mailto:", x)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files(page):
    missing = [
        link
        for link in links(page)
        if not link.startswith(GENERATED) and not (page.parent / link).exists()
    ]
    assert missing == []


def flags_of(config: type, prefix: str = "") -> set[str]:
    """Names of all flags of a dataclass of settings."""
    names = set()
    for field in dataclasses.fields(config):
        kind = field.default if field.default is not dataclasses.MISSING else None
        if dataclasses.is_dataclass(kind):
            names |= flags_of(type(kind), f"{prefix}{field.name}.")
        names.add(f"{prefix}{field.name}".replace("_", "-"))
    return names


def known_flags() -> set[str]:
    """Of every command line of the project, by its source."""
    names = flags_of(TrainConfig) | flags_of(EvaluateConfig) | OF_OTHERS
    for folder in ("byol_bnfree", "experiments", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            names |= set(re.findall(r"--([a-z][\w.-]*)", text))
            if "tyro" in text or "@dataclass" in text:
                fields = re.findall(r"^    (\w+): ", text, re.MULTILINE)
                names |= {name.replace("_", "-") for name in fields}
    return names


def test_flags_in_the_documentation_exist():
    known = known_flags()
    named = {
        (page.name, flag.rstrip("."))
        for page in PAGES
        for flag in re.findall(r"(?<![\w-])--([a-z][\w.-]*)", page.read_text())
    }
    assert {(page, flag) for page, flag in named if flag not in known} == set()


def test_recipes_in_the_documentation_exist():
    named = {
        recipe
        for page in PAGES
        for recipe in re.findall(r"configs/\w+\.py", page.read_text())
    }
    assert {recipe for recipe in named if not (ROOT / recipe).exists()} == set()


CLASSIFIER = {
    "conv1": {"kernel": (3, 3, 3, 64)},
    "norm1": {"scale": (64,), "bias": (64,)},
    "classifier": {"kernel": (64, 10), "bias": (10,)},
}


def tree_of(module, images):
    """The shapes of a module's parameters."""
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    return jax.tree.map(lambda leaf: leaf.shape, variables["params"])


def test_layers_serve_a_network_of_ones_own_as_the_readme_says():
    page = (ROOT / "README.md").read_text()
    text = re.search(r"<!-- test: layers -->\n```python\n(.*?)```", page, re.S)[1]
    names: dict = {}
    exec(text, names)  # text of this repository
    images = jnp.ones((2, 8, 8, 3))
    for norm in NORMS:
        exec(text.replace("gn_ws", norm), other := {})
        assert tree_of(other["Net"](), images) == CLASSIFIER
    variables = jax.jit(names["Net"]().init)(jax.random.key(0), images)
    assert names["Net"]().apply(variables, images).shape == (2, 10)
    body = text.partition("class Net")[2]
    assert len(body.strip().splitlines()) == 6
    norm = byol_bnfree.layers_for("bn").norm()
    assert norm.init_with_output(jax.random.key(0), images)[0].shape == images.shape


def test_a_file_of_ones_own_is_trained_as_the_page_says(tmp_path):
    """Traced as a whole, which finds what the run would refuse."""
    page = (DOCS / "own_code.md").read_text()
    text = re.search(r"<!-- test: mine -->\n```python\n(.*?)```", page, re.S)[1]
    file = tmp_path / "mine.py"
    file.write_text(text)
    own = [f"--model={file}:small", f"--augment.function={file}:noisy"]
    config = byol_bnfree.parse_args(["--norm=gn_ws", *own])
    data = byol_bnfree.DataShape(4096, 10, (32, 32, 3))
    parts = byol_bnfree.build_parts(config, data)
    names = {"conv1", "norm1", "conv2", "norm2"}
    assert parts.abstract_state.online_params["encoder"].keys() == names
    draw = jax.jit(views_of_step_0(config))
    batch = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tiny.batch(2))
    views = draw(batch, jax.random.key(0))
    assert not np.allclose(*views)


@pytest.mark.slow  # compiles a whole step
def test_the_training_step_runs_in_a_loop_of_ones_own():
    page = (DOCS / "own_code.md").read_text()
    text = re.search(r"<!-- test: step -->\n```python\n(.*?)```", page, re.S)[1]
    names: dict = {}
    exec(text, names)  # text of this repository
    assert names["state"].step == 1 and names["metrics"]["train/loss"] > 0


@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_a_state_is_saved_restored_and_made_an_encoder(norm, tmp_path, monkeypatch):
    page = (DOCS / "own_code.md").read_text()
    text = re.search(r"<!-- test: save -->\n```python\n(.*?)```", page, re.S)[1]
    config, batch = tiny.config(norm=norm), tiny.batch()
    parts = byol_bnfree.build_parts(config, byol_bnfree.DataShape(48, 3, (8, 8, 3)))
    state = jax.jit(parts.init)(batch)
    names = {"config": config, "parts": parts, "batch": batch, "state": state}
    monkeypatch.chdir(tmp_path)
    exec(text, names)  # text of this repository
    assert names["state"] is not state
    jax.tree.map(np.testing.assert_array_equal, names["state"], state)
    assert ("batch_stats" in names["variables"]) == (norm == "bn")
    assert names["features"].shape == (8, 64) and np.all(names["features"] >= 0)


def test_a_state_of_another_optimizer_is_restored_as_the_page_says(tmp_path):
    page = (DOCS / "own_code.md").read_text()
    text = re.search(r"<!-- test: own_optimizer -->\n```python\n(.*?)```", page, re.S)[
        1
    ]
    config = tiny.config(optim=OptimConfig(name="adamw"))
    other = byol_bnfree.build_parts(
        tiny.config(), byol_bnfree.DataShape(48, 3, (8, 8, 3))
    )
    names = {
        "config": config,
        "parts": other,
        "state": jax.jit(other.init)(tiny.batch()),
    }
    exec(text, names)  # text of this repository
    assert jax.eval_shape(lambda: names["state"]) != other.abstract_state
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "checkpoint", names["state"])
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "checkpoint", names["like"])
    jax.tree.map(np.testing.assert_array_equal, restored, names["state"])


@pytest.mark.slow  # compiles a whole step
def test_a_whole_loop_of_ones_own_trains_and_moves_the_target():
    page = (DOCS / "own_code.md").read_text()
    text = re.search(r"<!-- test: loop -->\n```python\n(.*?)```", page, re.S)[1]
    names: dict = {}
    exec(text, names)  # text of this repository
    assert names["moments"][0].count == 3 and 0 < names["loss"] < 8
    before = names["start"](jax.random.key(0), names["images"])[1]
    after = names["target"]
    assert after.keys() == {"encoder", "projector"}
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, after)
    assert 0 < max(jax.tree.leaves(moved)) < 0.01
    assert 0 < names["measures"]["collapse/feature_std"] < 2


def test_features_of_an_array_are_computed_as_the_page_says():
    page = (DOCS / "evaluation.md").read_text()
    text = re.search(r"<!-- test: array -->\n```python\n(.*?)```", page, re.S)[1]
    encoder, draws = tiny.encoder("gn_ws"), np.random.default_rng(0)
    pixels = draws.integers(0, 256, (5, 8, 8, 3), np.uint8)
    names = {"encoder": encoder, "pixels": pixels}
    exec(text.replace("512", "2"), names)  # text of this repository
    np.testing.assert_allclose(names["features"], encoder(pixels), rtol=1e-3, atol=1e-5)


def test_the_page_of_the_proofs_has_a_row_for_every_claim():
    page = (DOCS / "proofs.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [*CLAIMS]


def test_the_loss_serves_a_loop_of_ones_own():
    page = (DOCS / "own_code.md").read_text()
    text = re.search(r"<!-- test: loss -->\n```python\n(.*?)```", page, re.S)[1]
    names: dict = {}
    exec(text, names)  # text of this repository
    one, other = jnp.eye(4), -jnp.eye(4)
    assert names["loss"]((one, one), (one, one)) == 0
    assert names["loss"]((one, one), (other, other)) == 8
    for name in re.findall(r"`(\w+)\(", page.split("test: loss")[1]):
        assert hasattr(byol_bnfree, name), name


def test_boxes_of_ones_own_are_evaluated_as_the_page_says(capsys):
    page = (DOCS / "dense.md").read_text()
    text = re.search(r"<!-- test: boxes -->\n```python\n(.*?)```", page, re.S)[1]
    names: dict = {}
    exec(text, names)  # text of this repository
    figures = names["evaluate_boxes"](tiny.encoder("gn_ws"), steps=2)
    assert figures["pictures"] == figures["objects"] == 16
    assert 0 <= figures["ap_coco"] <= 1


def reference(name: str) -> str:
    """The line of the page; modules are named like two of the functions."""
    home = byol_bnfree._HOME[name] if name in ("train", "evaluate") else ""
    return f"::: {'.'.join(filter(None, ('byol_bnfree', home, name)))}\n"


@pytest.mark.parametrize("name", byol_bnfree.__all__)
def test_every_public_name_is_documented(name):
    public = getattr(byol_bnfree, name)
    page = (DOCS / "api" / "index.md").read_text()
    assert reference(name) in page
    if inspect.isroutine(public) or inspect.isclass(public):
        assert public.__doc__ and len(public.__doc__) > 20


def test_the_reference_names_nothing_that_is_gone():
    named = re.findall(r"::: [\w.]+\n", (DOCS / "api/index.md").read_text())
    assert set(named) == {reference(name) for name in byol_bnfree.__all__}


def test_every_public_name_of_the_evaluation_is_documented():
    named = re.findall(r"::: ([\w.]+)\n", (DOCS / "api/evaluation.md").read_text())
    functions = [f"byol_bnfree.evaluation.{name}" for name in evaluation.__all__]
    data = [name for name in named if name.startswith("byol_bnfree.data.dense.")]
    wanted = ["byol_bnfree.evaluation.config.EvaluateConfig", *functions, *data]
    assert named == wanted and len(data) == 3
    assert all(getattr(evaluation, name).__doc__ for name in evaluation.__all__)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    cells = json.loads((DOCS / "notebook.ipynb").read_text())["cells"]
    program = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    environment = os.environ | {"BYOL_NOTEBOOK_STEPS": "5", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-2000:]
