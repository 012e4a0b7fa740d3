"""A few of what `pictures.py` and `configurations.py` do by the hundred."""

import pytest

import configurations
import pictures

pytestmark = pytest.mark.slow


def test_mutated_pictures_are_used_or_named(tmp_path):
    outcomes = pictures.survey(tmp_path, count=30)
    assert outcomes["zero bytes"] == {"refused": 2}
    assert outcomes["1 x 30,000"] == {"used": 2}


def test_configurations_are_built_or_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcomes, failures = configurations.survey(16, depths=("built",))
    assert not failures, failures[0]
    assert outcomes["built"] and outcomes["refused"]
