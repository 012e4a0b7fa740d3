"""Imports point one way; the map is in docs/structure.md."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "byol_bnfree"
LEAVES = ("errors", "config", "settings")
# What imports training, itself or through others.
ABOVE = ("training", "encoder", "untrained", "evaluation", "whole_run", "claims")
FORBIDDEN = {
    "losses": ("models", "data", "diagnostics", *ABOVE),
    "objectives": ("models", "data", "diagnostics", *ABOVE),
    "assembly": ("cpu", "data", "diagnostics", *ABOVE),
    "models": ("cpu", "data", "diagnostics", "assembly", "own_encoder", *ABOVE),
    "cpu": ("data", "diagnostics", *ABOVE),
    "data": ("models", "diagnostics", *ABOVE),
    "diagnostics": ("data", *ABOVE),
    "training": (
        *("evaluation", "whole_run", "encoder", "untrained", "train", "claims"),
    ),
    "represent": ("models", "diagnostics", *ABOVE),
    "encoder": ("untrained", "evaluation", "diagnostics", "whole_run", "claims"),
    "untrained": ("evaluation", "diagnostics", "whole_run", "claims"),
    "evaluation": ("whole_run", "train", "claims"),
    "claims": ("whole_run", "train", "verify"),
    "whole_run": ("claims", "verify"),
    "interop": ("evaluation", "whole_run", "claims", "train", "export"),
}
PARSERS = {"byol_bnfree.command_line.parse_args", "byol_bnfree.flags.cli"}
COMMANDS = ("train", "evaluate", "embed", "predict", "export", "verify")
OPTIONAL = ("tensorflow", "torch", "wandb", "sklearn", "beartype", "pytest")


def imported(file: Path) -> set[str]:
    """Dotted names that a file imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return names


def test_a_module_imported_from_its_package_is_seen(tmp_path):
    (tmp_path / "a.py").write_text("from byol_bnfree import training\n")
    assert "byol_bnfree.training" in imported(tmp_path / "a.py")


def files_of(part: str) -> list[Path]:
    folder = PACKAGE / part
    return (
        sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    )


@pytest.mark.parametrize("part", FORBIDDEN)
def test_imports_point_down(part):
    modules = [f for f in files_of(part) if f.name != "__main__.py"]  # a command
    for file in modules:
        for other in FORBIDDEN[part]:
            prefix = f"byol_bnfree.{other}"
            bad = {
                n for n in imported(file) if n == prefix or n.startswith(prefix + ".")
            }
            assert not bad, f"{file.name} imports {bad}"


def test_no_module_imports_a_command():
    commands = {f"byol_bnfree.{name}" for name in COMMANDS}
    modules = [f for f in PACKAGE.rglob("*.py") if f.name != "__main__.py"]
    assert [f.name for f in modules if imported(f) & commands] == []


def test_what_only_has_a_command_line_is_a_command():
    """A module beside the commands that reads flags, but runs nothing, is silent."""
    reading = {file.stem for file in PACKAGE.glob("*.py") if PARSERS & imported(file)}
    silent = {
        name
        for name in reading
        if '__name__ == "__main__"' not in (PACKAGE / f"{name}.py").read_text()
    }
    assert silent <= {"__init__", "command_line"}


def test_no_module_inside_the_package_parses_flags():
    modules = [f for f in PACKAGE.glob("*/**/*.py") if f.name != "__main__.py"]
    assert [f.name for f in modules if PARSERS & imported(f)] == []


def test_the_map_names_every_module_and_folder():
    page = (ROOT / "docs" / "structure.md").read_text().partition("## Changes")[0]
    there = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    there |= {path.name for path in PACKAGE.glob("[!_]*.py")}
    assert there - {*re.findall(r"`([\w.]+/?)`", page)} == set()


@pytest.mark.parametrize("part", LEAVES)
def test_settings_import_nothing_of_ours_but_each_other(part):
    for file in files_of(part):
        ours = {n for n in imported(file) if n.startswith("byol_bnfree")}
        assert {n.split(".")[1] for n in ours} <= {*LEAVES}, file.name


def test_the_package_never_imports_configs_experiments_or_optional_packages():
    # interop/for_torch holds programs that a Python with torch runs, not modules.
    files = [f for f in PACKAGE.rglob("*.py") if f.parent.name != "for_torch"]
    roots = {n.split(".")[0] for f in files for n in imported(f)}
    assert not roots & {"configs", "experiments", "tests", *OPTIONAL}


def test_no_two_packages_of_experiments_import_each_other():
    packages = [path.parent for path in ROOT.glob("experiments/*/__init__.py")]
    uses = {
        package.name: {n for file in package.rglob("*.py") for n in imported(file)}
        for package in packages
    }
    pairs = {
        (one, other)
        for one, names in uses.items()
        for other in uses
        if one != other
        and any(f"{n}.".startswith(f"experiments.{other}.") for n in names)
    }
    assert {pair for pair in pairs if pair[::-1] in pairs} == set()


def test_no_two_files_of_tests_have_one_name():
    """pytest imports each by its name alone, so it would refuse the second."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
