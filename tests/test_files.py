"""Files are written whole or not at all, and read or refused in one sentence."""

import io
import resource
import signal

import numpy as np
import pytest
from matplotlib.figure import Figure

from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.kept.embedding import Embedding, save_embedding
from byol_bnfree.files import (
    append_row,
    append_whole,
    flatten,
    read_json,
    read_rows,
    replacing_text,
    save_figure,
    why_no_folder,
)


class Full(io.FileIO):
    """A file on a disk that takes a few bytes at a time, and then no more."""

    room = 10

    def write(self, data) -> int:
        taken = min(4, self.room)
        if not taken:
            raise OSError(28, "No space left on device")
        self.room -= taken
        return super().write(data[:taken])


def test_a_line_is_appended_in_pieces_or_not_at_all(tmp_path):
    path = tmp_path / "rows"
    with Full(path, "ab") as file:
        append_whole(file, b"12345678\n")
        with pytest.raises(OSError, match="No space"):
            append_whole(file, b"abcdefgh\n")
    assert path.read_bytes() == b"12345678\n"


def test_a_row_that_was_cut_off_is_left_out_and_removed_by_its_writer(tmp_path):
    path = tmp_path / "folder" / "rows.jsonl"
    assert read_rows(path) == []
    append_row(path, {"a": float("nan")})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"b"')
    assert read_rows(path) == [{"a": None}] and path.read_bytes() != whole
    assert read_rows(path, mend=True) == [{"a": None}] and path.read_bytes() == whole
    path.write_bytes(b'{"b"\n' + whole)
    with pytest.raises(InputError, match="rows.jsonl has a line that is not JSON"):
        read_rows(path)


def test_a_row_of_results_is_whole_after_a_full_disk(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    append_row(path, {"a": 1})
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr("builtins.open", lambda path, mode, buffering: Full(path, mode))
        append_row(path, {"b": "long"})
    append_row(path, {"c": 3})
    assert read_rows(path) == [{"a": 1}, {"c": 3}]


@pytest.fixture
def small_files():
    """No file may grow beyond 4 kB, as on a full disk."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def long_text(path):
    with replacing_text(path) as file:
        file.write("ü" * 9000)


def figure(path):
    save_figure(path, Figure(figsize=(9, 9)))


def embedding(path):
    zeros = np.zeros((9, 999), np.float32)
    names = ["a"] * 9
    save_embedding(path, Embedding(zeros, names, names, np.full(9, -1), ()))


@pytest.mark.parametrize(
    "write, ending",
    [(long_text, ".csv"), (figure, ".png"), (embedding, ".csv"), (embedding, ".npz")],
)
def test_an_old_file_stays_whole_if_the_new_one_cannot_be(
    write, ending, tmp_path, small_files
):
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"old")
    with pytest.raises((OSError, InputError)):
        write(path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_an_old_file_stays_if_its_writer_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing_text(path) as file:
        file.write(str(1 / 0))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with replacing_text(path) as file:
        file.write("ü\r\n")
    assert path.read_bytes() == "ü\r\n".encode()


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_ending_of_a_figure_is_its_format(ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    save_figure(path, Figure(figsize=(1, 1)))
    assert {"png": b"PNG", "svg": b"<svg"}[ending] in path.read_bytes()


def test_a_name_that_is_too_long_is_one_sentence(tmp_path):
    assert read_json(tmp_path / "none" / "a.json") is None
    (tmp_path / "file").touch()
    assert read_json(tmp_path / "file" / "a.json") is None
    with pytest.raises(InputError, match="cannot be read .File name too long.; make"):
        read_json(tmp_path / ("x" * 300))


@pytest.mark.parametrize("content", ["[]", "3", "{"])
def test_what_is_no_json_object_is_one_sentence(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match="a.json .*restore or delete it"):
        read_json(tmp_path / "a.json")


def test_a_folder_can_be_where_nothing_stands_in_the_way(tmp_path):
    (tmp_path / "file").touch()
    assert why_no_folder(tmp_path / "a" / "b") is None
    assert why_no_folder(tmp_path) is None
    for path in (tmp_path / "file", tmp_path / "file" / "a"):
        assert why_no_folder(path) == f"{tmp_path / 'file'} is a file"


def test_nested_settings_have_dotted_names():
    assert flatten({}) == {}
    tree = {"a": {"b": 1, "c": {"d": None}}, "e": [{"f": 2}], "g": {}}
    assert flatten(tree) == {"a.b": 1, "a.c.d": None, "e": [{"f": 2}]}


@pytest.mark.parametrize(
    "end, rows",
    [
        ("", [{"a": 1}, {"c": 3}]),
        ('{"b": 2}', [{"a": 1}, {"b": 2}, {"c": 3}]),  # an editor saved it so
        ('{"b": ', [{"a": 1}, {"c": 3}]),  # a crash cut it off
    ],
)
def test_a_row_never_joins_the_end_of_another(end, rows, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' + end)
    append_row(path, {"c": 3})
    assert read_rows(path) == rows
