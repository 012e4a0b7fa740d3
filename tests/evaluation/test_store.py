"""Rows survive a kill, and arrays on disk are whole or made again."""

import numpy as np
import pytest

from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.kept.arrays import cached
from byol_bnfree.evaluation.kept.store import Store

IDENTITY = {"protocol": "knn", "settings": {"k": (1, 2)}}


def test_a_row_is_found_again_by_its_identity(tmp_path):
    Store(tmp_path / "e.jsonl").add(IDENTITY, figures={"top1": 0.5})
    store = Store(tmp_path / "e.jsonl")
    assert store.find(IDENTITY)["figures"] == {"top1": 0.5}
    assert store.find(IDENTITY | {"seed": 1}) is None


def test_the_newest_of_equal_rows_counts(tmp_path):
    store = Store(tmp_path / "e.jsonl")
    for top1 in (0.1, 0.2):
        store.add(IDENTITY, figures={"top1": top1})
    assert store.find(IDENTITY)["figures"] == {"top1": 0.2}
    assert [row["figures"]["top1"] for row in store.figures()] == [0.2]


def test_a_result_that_was_measured_again_comes_last(tmp_path):
    store = Store(tmp_path / "e.jsonl")
    for k in (20, 200, 20):
        store.add({"protocol": "knn", "settings": {"k": k}}, figures={})
    order = [row["identity"]["settings"]["k"] for row in store.figures()]
    assert order == [200, 20]


def test_a_row_cut_off_by_a_kill_is_dropped_and_the_others_stay(tmp_path):
    path = tmp_path / "e.jsonl"
    Store(path).add(IDENTITY, figures={"top1": 0.5})
    with open(path, "a") as file:
        file.write('{"identity": {"pro')
    store = Store(path)
    store.add(IDENTITY | {"seed": 1}, figures={})
    assert len(Store(path).figures()) == 2


def test_a_line_that_is_not_json_is_refused_with_its_file(tmp_path):
    (tmp_path / "e.jsonl").write_text("nonsense\n")
    with pytest.raises(InputError, match="e.jsonl"):
        Store(tmp_path / "e.jsonl")


def test_rows_of_other_programs_are_passed_over_with_a_note(tmp_path, capsys):
    (tmp_path / "e.jsonl").write_text('{"top1": 0.5}\n3\n')
    store = Store(tmp_path / "e.jsonl")
    assert "note: 2 rows" in capsys.readouterr().out
    assert store.find(IDENTITY) is None and not store.figures()
    assert store.add(IDENTITY, figures={}) == store.find(IDENTITY)


def test_a_cached_array_is_made_once(tmp_path):
    path, array = tmp_path / "f" / "a.npz", np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(cached(path, lambda: array), array)
    np.testing.assert_array_equal(cached(path, lambda: 1 / 0), array)


def test_a_damaged_array_is_made_again(tmp_path):
    path, array = tmp_path / "a.npz", np.arange(600.0)
    cached(path, lambda: array)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    np.testing.assert_array_equal(cached(path, lambda: array + 1), array + 1)


def test_checksums_tell_shapes_types_and_values_apart():
    a = np.zeros(4, np.float32)
    others = a.reshape(2, 2), a.astype(np.int32), a + 1
    assert len({checksum(x) for x in (a, *others)}) == 4
    assert checksum(a) == checksum(a.copy())
