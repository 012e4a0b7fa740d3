"""The optional C++ never ends a run: it is built where that is possible, or refused."""

import ctypes
import errno
import os
from pathlib import Path

import pytest

from byol_bnfree.cpu import native

pytestmark = pytest.mark.skipif(native.register() is not None, reason="no oneDNN")
CXX = """#!/bin/sh
case "$*" in *--version*) echo "${VERSION:-1}"; exit;; esac
while [ "$1" != -o ]; do shift; done
case "$2" in */byol_bnfree/*) echo "No space left on device" >&2; exit 1;; esac
exec c++ -shared -x c++ /dev/null -x none "$@"
"""


@pytest.fixture
def build(tmp_path):
    """With a compiler that takes no time, because it compiles nothing.

    It cannot write to the cache.
    """
    script = tmp_path / "cxx"
    script.write_text(CXX)
    script.chmod(0o755)
    library = native._file(native._LIBRARY, "libdnnl.so.3")
    return native._Build([str(script)], library, Path("/usr/include"))


@pytest.fixture
def nobody(monkeypatch):
    """A user without a home, as in a container with `--user 4242`."""

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)


def test_without_a_home_it_is_built_in_a_temporary_folder(build, nobody):
    assert isinstance(native._loaded(build), ctypes.CDLL)


def test_without_a_home_a_compiler_that_fails_ends_in_a_sentence(nobody, monkeypatch):
    monkeypatch.setenv("CXX", "false")
    assert "could not be compiled" in native.register.__wrapped__()


def test_without_any_folder_it_ends_in_a_sentence(monkeypatch, nobody):
    def nowhere(*_, **__):
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(native.tempfile, "TemporaryDirectory", nowhere)
    assert "could not be loaded (No usable" in native.register.__wrapped__()


def test_a_cache_that_cannot_be_written_is_done_without(build, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert isinstance(native._loaded(build), ctypes.CDLL)


def test_a_full_cache_is_done_without(build, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native.shutil, "copy", full)
    assert isinstance(native._loaded(build), ctypes.CDLL)
    assert not [*(tmp_path / "byol_bnfree").iterdir()]


def test_a_file_of_the_cache_that_cannot_be_loaded_is_replaced(
    build, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "byol_bnfree" / build.name()
    file.parent.mkdir()
    file.write_bytes(b"half")
    assert isinstance(native._loaded(build), ctypes.CDLL)
    assert isinstance(ctypes.CDLL(str(file)), ctypes.CDLL)


def test_of_old_files_the_newest_stay_in_the_cache(build, tmp_path, monkeypatch):
    monkeypatch.setattr(native, "_KEPT", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = tmp_path / "byol_bnfree"
    cache.mkdir()
    for age in range(3):
        (cache / f"native-{age}.so").touch()
        os.utime(cache / f"native-{age}.so", (9 - age, 9 - age))
    native._loaded(build)
    assert {file.name for file in cache.iterdir()} == {"native-0.so", build.name()}


def test_a_file_that_another_process_stored_meanwhile_stays(build, tmp_path):
    """It may be in use on another machine."""
    build.compile(tmp_path / "native-x.so")
    first = native._stored(tmp_path / "native-x.so", tmp_path / "cache").stat().st_ino
    again = native._stored(tmp_path / "native-x.so", tmp_path / "cache").stat().st_ino
    assert first == again


def test_the_reason_of_a_compiler_is_its_first_error():
    said = (
        "In file included from /tmp/a/calls.cc:3:\n"
        "/tmp/a/x.h:1:10: fatal error: omp.h: No such file\n"
        "compilation terminated.\n"
    )
    assert native._reason(said) == "x.h:1:10: fatal error: omp.h: No such file"
    assert native._reason("") == "no message" and native._reason("x\ny") == "y"


def test_a_library_may_be_in_a_folder_with_a_comma(build, tmp_path):
    folder = tmp_path / "with,comma"
    folder.symlink_to(build.library.parent)
    there = build._replace(library=folder / build.library.name)
    there.compile(tmp_path / "x.so")
    assert isinstance(ctypes.CDLL(str(tmp_path / "x.so")), ctypes.CDLL)


@pytest.mark.parametrize("what", ["flags", "compiler", "jaxlib", "onednn-cpu-gomp"])
def test_the_files_name_depends_on_what_it_is_built_with(build, what, monkeypatch):
    before, version = build.name(), native.importlib.metadata.version
    if what == "flags":
        monkeypatch.setattr(native, "_FLAGS", (*native._FLAGS, "-g"))
    elif what == "compiler":
        monkeypatch.setenv("VERSION", "2")
    else:
        monkeypatch.setattr(
            native.importlib.metadata,
            "version",
            lambda name: "other" if name == what else version(name),
        )
    assert build.name() != before


def test_the_file_is_on_the_disk_before_it_has_its_name(build, tmp_path, monkeypatch):
    done, fsync, link = [], os.fsync, os.link
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("sync"), fsync(fd)))
    monkeypatch.setattr(os, "link", lambda a, b: (done.append("name"), link(a, b)))
    build.compile(tmp_path / "native-x.so")
    native._stored(tmp_path / "native-x.so", tmp_path / "cache")
    assert done == ["sync", "name"]


def test_a_compiler_that_is_no_command_is_a_sentence(monkeypatch):
    monkeypatch.setenv("CXX", "g++ '-O2")
    assert (
        native.register.__wrapped__() == "$CXX is not a command (No closing quotation)"
    )


def test_a_compiler_may_have_arguments(monkeypatch):
    monkeypatch.setenv("CXX", "false --an-option")
    assert "could not be compiled" in native.register.__wrapped__()
