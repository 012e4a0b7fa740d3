"""Command lines: the help texts of dataclasses, and paths."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.flags import cli, given_twice


@dataclass(frozen=True)
class Part:
    """A nested group."""

    size: int = 3
    """The size of the part,
    in pixels."""


@dataclass(frozen=True)
class Settings:
    """Some settings."""

    rate: float = 0.5
    """First paragraph, whose line
    goes on.

    Second paragraph."""
    plain: bool = False
    part: Part = Part()


@pytest.fixture
def help_text(capsys):
    with pytest.raises(SystemExit):
        cli(Settings, args=["--help"], prog="x")
    return [line.strip(" │") for line in capsys.readouterr().out.splitlines()]


def test_lines_of_a_help_text_are_joined_and_paragraphs_stay(help_text):
    text = " ".join(" ".join(help_text).split())
    assert "First paragraph, whose line goes on. Second paragraph." in text
    assert any("whose line goes on." in line for line in help_text)
    assert not any("goes on. Second" in line for line in help_text)
    assert any("The size of the part, in pixels." in line for line in help_text)


def test_values_and_defaults_are_those_of_tyro():
    default = Settings(rate=0.1)
    found = cli(Settings, args=["--part.size=7", "--plain"], default=default)
    assert found == Settings(rate=0.1, plain=True, part=Part(7))


@dataclass(frozen=True)
class Folders:
    """Some paths."""

    out: Path = Path("runs")
    results: Path | None = None


@pytest.mark.parametrize("name", ["out", "results"])
def test_an_empty_path_is_refused_and_is_not_the_present_folder(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli(Folders, args=[f"--{name}="], prog="x")
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert f"--{name}" in said and "the path is empty" in said
    assert "no type matching" not in said  # one reason, not one for each type


def test_other_paths_are_read_as_they_stand():
    read = cli(Folders, args=["--out=.", "--results", "a b/c"], prog="x")
    assert read == Folders(Path("."), Path("a b/c"))
    assert cli(Folders, args=["--results=None"], prog="x").results is None
    assert cli(Folders, args=["--results=None"], prog="x") == Folders()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--norm=bn --norm gn_ws", "--norm is given twice (bn, gn_ws); the last"),
        ("--batch_size=8 --batch-size 9", "--batch-size is given twice (8, 9); the"),
        ("--seeds 0 1 --plot --seeds 2", "--seeds is given twice (0 1, 2); the last"),
        ("--plot --x=1 --no-plot", "--plot is given twice (True, False); the last"),
        ("--a.plot --a.no-plot", "--a.plot is given twice (True, False); the last"),
        ("--x=1 --x=2 --x=1", "--x is given 3 times (1, 2, 1); the last one counts."),
        ("--rate -1 --rate -2", "--rate is given twice (-1, -2); the last one counts."),
        ("--norm=bn --norm bn --plot --plot --seeds 0 1 --seeds 0 1", None),
        ("--norm=bn --encoder-norm=gn --a.norm=ws", None),
        ("views", None),
        ("", None),
    ],
)
def test_a_flag_with_two_values_is_named(typed, said):
    found = given_twice(typed.split())
    assert [note.startswith(said) for note in found] == [True] * (said is not None)


def test_a_user_is_told_and_a_program_is_not(monkeypatch, capsys):
    argv = ["--rate=1", "--rate=2"]
    assert cli(Settings, args=argv).rate == 2
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "argv", ["x", *argv])
    exit_on_error(lambda: None)
    note = "note: --rate is given twice (1, 2); the last one counts.\n"
    assert capsys.readouterr().err == note
