"""Compiled programs are kept in the user's cache folder, and never stop a run."""

import os
import subprocess
import sys

import jax
import pytest

from byol_bnfree.machine import user_cache
from byol_bnfree.machine.user_cache import compiled_programs_kept


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


def test_programs_of_other_types_of_cpus_count_too(home, monkeypatch):
    """An update of the system may make the CPU another type."""
    monkeypatch.setattr(user_cache, "LARGEST", 25)
    monkeypatch.setattr(user_cache, "KEPT", 10)
    with compiled_programs_kept("auto") as folder:
        for index in range(3):
            place = folder.with_name(f"programs-{index}")
            place.mkdir()
            (place / "x").write_bytes(bytes(10))
            os.utime(place / "x", (index, index))
    with compiled_programs_kept("auto"):
        left = [file.parent.name for file in folder.parent.glob("programs-*/x")]
        assert left == ["programs-2"]


def test_a_folder_of_autotuning_counts_by_its_files(home, monkeypatch):
    """XLA makes one there on GPUs."""
    monkeypatch.setattr(user_cache, "LARGEST", 25)
    monkeypatch.setattr(user_cache, "KEPT", 10)
    with compiled_programs_kept("auto") as folder:
        tuned = folder / "xla_gpu_per_fusion_autotune_cache_dir"
        tuned.mkdir()
        for index, place in enumerate((tuned, folder, tuned)):
            (place / str(index)).write_bytes(bytes(10))
            os.utime(place / str(index), (index, index))
        os.utime(tuned, (0, 0))
    with compiled_programs_kept("auto") as again:
        assert again == folder
        assert [path.name for path in folder.rglob("*") if path.is_file()] == ["2"]


def test_every_run_of_a_process_stores_in_its_own_folder(tmp_path):
    """JAX by itself would go on with the first, also after the run and for None."""
    code = f"""
import jax, jax.numpy as jnp
from pathlib import Path
from byol_bnfree.machine.user_cache import compiled_programs_kept

def stored(folder):
    return len(list(Path(folder).glob("*-cache")))

def compile(n):
    jax.jit(lambda x: jnp.tanh(x) * n).lower(1.0).compile()

jax.config.update("jax_compilation_cache_dir", None)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
one, two = "{tmp_path}/one", "{tmp_path}/two"
for number, folder in enumerate((one, two, None, one)):
    with compiled_programs_kept(folder):
        compile(10 * number)
    compile(10 * number + 1)
    print(stored(one), stored(two))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:-1] == ["1 0", "1 1", "1 1", "2 1"]


def test_a_damaged_program_is_compiled_again(tmp_path):
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

    def answer():
        return float(jax.jit(lambda x: 3 * x)(14.0))

    try:
        with compiled_programs_kept(str(tmp_path)):
            assert answer() == 42
        programs = list(tmp_path.glob("*-cache"))
        assert programs
        for program in programs:
            program.write_bytes(b"damaged")
        warned = pytest.warns(UserWarning, match="reading persistent compilation")
        with compiled_programs_kept(str(tmp_path)), warned:
            assert answer() == 42
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)
