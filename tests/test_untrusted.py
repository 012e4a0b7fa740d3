"""Nothing that a run reads is executed, but the Python files that the user names."""

import ast
import os
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import byol_bnfree
from byol_bnfree import InputError, TrainConfig
from byol_bnfree.data.sources import open_source
from byol_bnfree.evaluation.kept.arrays import cached
from byol_bnfree.training.checkpoint import Checkpoints

PACKAGE = Path(byol_bnfree.__file__).parent
EXECUTING_PACKAGES = (
    "pickle dill cloudpickle joblib marshal shelve yaml torch runpy code codeop"
).split()
EXECUTING_CALLS = (
    "eval exec compile __import__ exec_module load_module import_module system popen"
).split()
NODES = {
    file.relative_to(PACKAGE).as_posix(): list(ast.walk(ast.parse(file.read_text())))
    for file in sorted(PACKAGE.rglob("*.py"))
    if file.parent.name != "for_torch"  # run by another Python, and tested below
}
CALLS = [
    (name, node)
    for name, nodes in NODES.items()
    for node in nodes
    if isinstance(node, ast.Call)
]


def name_of(call: ast.Call) -> str:
    """`exec` of `exec(...)`; of a method, `exec_module`, without its object."""
    function = call.func
    if isinstance(function, ast.Attribute):
        return "" if function.attr == "compile" else function.attr  # re's and jax's
    return function.id if isinstance(function, ast.Name) else ""


def test_only_files_of_the_users_own_code_are_executed():
    found = {(file, name_of(call)) for file, call in CALLS}
    executing = {(file, name) for file, name in found if name in EXECUTING_CALLS}
    assert executing == {
        ("own_code.py", "exec_module"),  # --config, --model and --augment.function
        ("lazy.py", "import_module"),  # of tables of our own modules
        ("training/boards.py", "import_module"),  # wandb, by its name
    }


def test_no_package_that_executes_what_it_loads_is_imported():
    for file, nodes in NODES.items():
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names]
                names += [getattr(node, "module", None) or ""]
                roots = {name.split(".")[0] for name in names}
                # `byol-experiments` runs our own programs.
                allowed = {"runpy"} if file == "grids.py" else set()
                found = roots & {*EXECUTING_PACKAGES} - allowed
                assert not found, f"{file}: {found}"


def test_arrays_are_never_loaded_with_pickles_and_no_shell_is_started():
    for file, call in CALLS:
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if ast.unparse(call.func) in ("np.load", "numpy.load", "jnp.load"):
            assert given.get("allow_pickle") == "False", f"{file}: {ast.unparse(call)}"
        assert given.get("shell") in (None, "False"), f"{file}: {ast.unparse(call)}"


def test_programs_for_torch_read_no_pickle():
    for file in (PACKAGE / "interop" / "for_torch").glob("*.py"):
        calls = (n for n in ast.walk(ast.parse(file.read_text())))
        names = {ast.unparse(n.func) for n in calls if isinstance(n, ast.Call)}
        assert not names & {"torch.load", "pickle.load", "eval", "exec"}
        assert "weights_only" not in file.read_text()


class Hostile:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_hostile_array_file_is_made_again_and_not_executed(tmp_path):
    trap, file = tmp_path / "trap", tmp_path / "features.npz"
    np.savez(file, array=np.array([Hostile(trap)], dtype=object))
    np.testing.assert_array_equal(cached(file, lambda: np.ones(3)), np.ones(3))
    assert not trap.exists()


def test_checkpoints_are_read_without_unpickling(tmp_path, monkeypatch):
    state = {"w": jnp.arange(3.0), "step": jnp.int32(7)}
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(7, state)
    checkpoints.close()
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, lambda *args, **kwargs: pytest.fail("pickle"))
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    restored, _ = Checkpoints(tmp_path, keep=1).restore(abstract)
    np.testing.assert_array_equal(restored["w"], state["w"])


@pytest.mark.parametrize("hidden", [False, True])
def test_a_data_set_cannot_name_a_module_to_import(tmp_path, monkeypatch, hidden):
    """`hidden`: in JSON inside a text, as tensorflow-datasets nests it."""
    (tmp_path / "evil.py").write_text("raise SystemExit('executed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "digits" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(
        '{"name": "digits", "fileFormat": "array_record", "splits": []}'
    )
    feature = '{"pythonClassName": "evil.Feature", "tensor": {}}'
    if hidden:
        quoted = feature.replace('"', '\\"')
        feature = f'{{"jsonFeature": {{"json": "{quoted}"}}}}'
    (folder / "features.json").write_text(feature)
    config = TrainConfig(dataset="digits", data_dir=str(tmp_path), steps=1)
    with pytest.raises(InputError):  # nothing of the file is imported, so no SystemExit
        open_source(config, "train")
