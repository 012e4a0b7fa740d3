"""What `import byol_bnfree` gives, and when."""

import ast
import importlib
import subprocess
import sys
import tomllib
import warnings
from inspect import unwrap
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import byol_bnfree
from byol_bnfree import evaluation, grids

PACKAGE = Path(byol_bnfree.__file__).parent
ROOT = PACKAGE.parent
LAZY = {
    byol_bnfree: Path(byol_bnfree.__file__),
    evaluation: Path(evaluation.__file__),
}


def python(code: str, *flags: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "call, wanted",
    [
        (lambda: byol_bnfree.train({"norm": "bn"}), "a TrainConfig"),
        (lambda: byol_bnfree.create_network("bn", None), "a TrainConfig"),
        (lambda: unwrap(byol_bnfree.build_parts)({}, (8, 2, (8, 8, 3))), "a TrainCon"),
        (lambda: unwrap(byol_bnfree.make_train_step)(*[None] * 4), "a TrainConfig"),
        (lambda: unwrap(byol_bnfree.evaluate)("runs/mine"), "an EvaluateConfig"),
        (lambda: byol_bnfree.parse_args("--norm=bn"), r"a list of flags: \['--norm=bn"),
        (
            lambda: unwrap(byol_bnfree.parse_args)(["--steps", 20]),
            "texts, such as '20'",
        ),
        (lambda: unwrap(byol_bnfree.parse_args)([Path("w")]), "texts, such as 'w'"),
    ],
)
def test_settings_of_another_kind_are_refused_in_a_sentence(call, wanted):
    with pytest.raises(byol_bnfree.InputError, match=f"; give {wanted}"):
        call()


@pytest.mark.parametrize("package", LAZY, ids=lambda package: package.__name__)
def test_every_public_name_exists_and_says_what_it_is(package):
    assert sorted(package.__all__) == sorted(package._HOME)
    for name in package.__all__:
        public = getattr(package, name)
        assert name == "Norm" or public.__doc__, name


@pytest.mark.parametrize("package", LAZY, ids=lambda package: package.__name__)
def test_editors_see_the_same_names(package):
    tree = ast.parse(LAZY[package].read_text())
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    seen = {
        alias.name: node.module.removeprefix(f"{package.__name__}.")
        for node in imports
        if node.col_offset  # under TYPE_CHECKING
        for alias in node.names
    }
    assert seen == package._HOME


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'byol_bnfree' has no attribute 'trian'"):
        byol_bnfree.trian  # noqa: B018


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_a_function_stays_a_function_after_its_module_is_imported(name):
    code = f"import byol_bnfree, byol_bnfree.{name}, inspect; "
    code += f"assert inspect.isfunction(byol_bnfree.{name}); "
    code += f"from byol_bnfree import {name} as f; assert inspect.isfunction(f)"
    done = python(code, "-W", "error::ImportWarning")
    assert not done.returncode, done.stderr


@pytest.mark.parametrize(
    "module, absent",
    [("byol_bnfree", {"jax", "tyro"}), ("byol_bnfree.config", {"jax"})],
)
def test_importing_needs_no_jax(module, absent):
    code = f"import sys, {module}; assert not {absent} & {{*sys.modules}}"
    done = python(code)
    assert not done.returncode, done.stderr


@pytest.mark.parametrize("command", ["train", "evaluate", "verify", "data"])
def test_help_needs_no_jax(command):
    code = f"""
import runpy, sys
sys.argv = ["x", "--help"]
try:
    runpy.run_module("byol_bnfree.{command}", run_name="__main__")
except SystemExit as end:
    assert not end.code and "jax" not in sys.modules, end.code
"""
    done = python(code)
    assert not done.returncode, done.stderr
    assert "usage" in done.stdout


def test_windows_is_refused_in_a_sentence():
    done = python("import sys; sys.platform = 'win32'; import byol_bnfree")
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith("ImportError: byol_bnfree runs on Linux and macOS")
    )


@pytest.mark.parametrize("command", ["train", "evaluate", "verify", "data"])
def test_every_command_says_its_version(command):
    code = f"""
import runpy, sys
sys.argv = ["x", "--version"]
runpy.run_module("byol_bnfree.{command}", run_name="__main__")
"""
    assert python(code).stdout == f"byol_bnfree {byol_bnfree.__version__}\n"


@pytest.mark.parametrize("module", ["byol_bnfree.training.step", "configs.smoke"])
def test_a_deprecated_call_fails_the_test_that_makes_it(module):
    old = "jax.old is deprecated", DeprecationWarning, "file.py", 1
    with pytest.raises(DeprecationWarning):
        warnings.warn_explicit(*old, module=module)
    warnings.warn_explicit(*old, module="flax.linen")  # not ours to mend


def test_the_console_commands_exist():
    text = (Path(byol_bnfree.__file__).parents[1] / "pyproject.toml").read_text()
    scripts = tomllib.loads(text)["project"]["scripts"]
    assert {"byol-train", "byol-evaluate", "byol-verify", "byol-data"} <= {*scripts}
    for target in scripts.values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(
    "system, machine, package",
    [
        ("linux", "x86_64", "tensorflow-cpu"),
        ("linux", "aarch64", "tensorflow"),
        ("darwin", "arm64", "tensorflow"),
    ],
)
def test_the_tf_extra_asks_for_one_package_that_has_wheels(system, machine, package):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = map(Requirement, project["optional-dependencies"]["tf"])
    here = {"sys_platform": system, "platform_machine": machine}
    chosen = [w.name for w in wanted if w.marker is None or w.marker.evaluate(here)]
    assert chosen == ["byol_bnfree", package]


def test_every_command_has_a_script_and_the_wheel_carries_what_it_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    scripts = project["project"]["scripts"]
    files = [*PACKAGE.glob("*.py"), *PACKAGE.glob("*/__main__.py")]
    commands = {
        "byol-" + (file.parent.name if file.stem == "__main__" else file.stem)
        for file in files
        if 'if __name__ == "__main__":' in file.read_text()
    }
    named = {"byol-grids": "byol-experiments"}
    assert {named.get(name, name) for name in commands} == {*scripts}
    for entry in scripts.values():
        module, _, name = entry.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
    carried = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert all((ROOT / source).is_dir() for source in carried)
    assert carried["experiments"] == "byol_bnfree/shipped/experiments"
    assert grids.folder() == ROOT
