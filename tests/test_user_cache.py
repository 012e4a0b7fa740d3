"""Compiled programs are kept in the user's cache folder, and never stop a run."""

import os

import jax
import pytest

import runs
from byol_bnfree import parse_args, train, user_cache
from byol_bnfree.user_cache import compiled_programs_kept


@pytest.fixture
def home(monkeypatch, tmp_path):
    """An empty cache folder, and no setting of JAX's own."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    jax.config.update("jax_compilation_cache_dir", before)


def test_by_default_it_is_in_the_users_cache_folder(home):
    with compiled_programs_kept("auto") as folder:
        assert folder.parent == home / "byol_bnfree"
        assert jax.config.jax_compilation_cache_dir == str(folder)
    assert jax.config.jax_compilation_cache_dir is None


def test_the_settings_of_the_run_and_of_jax_come_first(home, tmp_path):
    with compiled_programs_kept(str(tmp_path / "mine")) as folder:
        assert folder == tmp_path / "mine"
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    with compiled_programs_kept("auto") as folder:
        assert folder == tmp_path / "jax"
    with compiled_programs_kept(None) as folder:
        assert folder is None and jax.config.jax_compilation_cache_dir is None
    assert not home.exists()


@pytest.mark.parametrize("spoil", ["a file in the way", "read-only", "no home"])
def test_a_folder_that_cannot_be_written_is_done_without(spoil, home, monkeypatch):
    if spoil == "no home":
        monkeypatch.setattr(user_cache, "cache_folder", lambda: None)
    elif spoil == "read-only":

        def refuse(*args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(user_cache.tempfile, "TemporaryFile", refuse)
    else:
        home.write_text("in the way")
    with compiled_programs_kept("auto") as folder:
        assert folder is None


def test_the_oldest_programs_go_when_there_are_too_many(home, monkeypatch):
    monkeypatch.setattr(user_cache, "LARGEST", 25)
    monkeypatch.setattr(user_cache, "KEPT", 10)
    with compiled_programs_kept("auto") as folder:
        for index in range(3):
            (folder / str(index)).write_bytes(bytes(10))
            os.utime(folder / str(index), (index, index))
    with compiled_programs_kept("auto"):
        assert [path.name for path in folder.iterdir()] == ["2"]


def test_a_run_whose_cache_is_damaged_goes_on(tmp_path):
    cache = tmp_path / "programs"
    for run in ("first", "second"):
        settings = [f"--run.compilation-cache={cache}", f"--workdir={tmp_path / run}"]
        trained = train(parse_args([*runs.ARGUMENTS, *settings]))
        assert trained["steps"] == 4
        for program in cache.glob("*"):
            program.write_bytes(b"damaged")
