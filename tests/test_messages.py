"""Messages name settings as flags: --bn-stat-groups, not bn_stat_groups."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

import byol_bnfree
from byol_bnfree.config import TrainConfig
from byol_bnfree.data import preparing
from byol_bnfree.data.cifar import prepare_cifar
from byol_bnfree.encoder import load_encoder
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.kept.fitted import read_fitted
from byol_bnfree.interop import deepmind
from byol_bnfree.own_code import load_function

PACKAGE = Path(byol_bnfree.__file__).parent
SPEAKS = {"InputError", "RunStopped", "say", "_say", "print"}


def settings(config, prefix: str = "") -> list[str]:
    """Dotted names of all fields whose flag is spelled in another way."""
    names = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            names += settings(value, f"{prefix}{field.name}.")
        else:
            names.append(f"{prefix}{field.name}")
    return [name for name in names if "_" in name or "." in name]


NAMED = re.compile(
    rf"(?<![\w.\-/])({'|'.join(map(re.escape, settings(TrainConfig())))})(?![\w(=/])"
)


def spoken(path: Path) -> list[str]:
    """The texts of a file that a user may read."""
    calls = [
        n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)
    ]
    return [
        text.value
        for call in calls
        if getattr(call.func, "id", getattr(call.func, "attr", "")) in SPEAKS
        for text in ast.walk(call)
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
    ]


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_messages_name_flags(path):
    assert [text for text in spoken(path) if NAMED.search(text)] == []


def test_the_check_finds_a_field_name():
    assert NAMED.search("bn_stat_groups 3 is odd")
    assert not NAMED.search("--bn-stat-groups 3 is odd")


def test_a_bare_name_may_be_that_of_shipped_weights(tmp_path):
    """`load_pretrained` reads them, and its names look like folders."""
    with pytest.raises(InputError, match="load_pretrained reads shipped weights by na"):
        load_encoder("cifar10-resnet14-gn_ws-64epochs")
    with pytest.raises(InputError, match="or a file of weights\\.$"):
        load_encoder(tmp_path / "missing")


def archive(path):
    prepare_cifar("cifar10", path.parent, path)


@pytest.mark.parametrize("read", [load_encoder, read_fitted, deepmind.load, archive])
def test_a_file_that_is_not_there_has_a_reason_without_a_number(read, tmp_path):
    with pytest.raises(InputError, match=r"\(No such file or directory\); give"):
        read(tmp_path / "missing")


@pytest.mark.parametrize(
    "where, example", [("{file}", "{file}:encoder"), ("a.py", "networks.py:encoder")]
)
def test_a_file_without_a_function_gets_an_example_that_works(where, example, tmp_path):
    file = tmp_path / "mine.py"
    file.touch()
    with pytest.raises(InputError) as refused:
        load_function(where.format(file=file), "model")
    assert f"such as {example.format(file=file)}." in str(refused.value)


def test_an_unknown_set_names_those_that_need_no_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="cifar is none of cifar10, cifar100"):
        preparing.prepare("cifar", str(tmp_path))
