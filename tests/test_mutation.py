"""The list of `PYTHONPATH=tests python -m mutation` is up to date."""

import signal
from pathlib import Path

import pytest

from mutation.__main__ import judged
from mutation.faults import FAULTS
from mutation.mutations import MUTATIONS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("mutation", [*MUTATIONS, *FAULTS], ids=lambda m: m.name)
def test_the_line_of_a_mutation_stands_once_in_its_file(mutation):
    text = (ROOT / mutation.path).read_text()
    assert text.count(mutation.before) == 1
    assert mutation.before != mutation.after


def test_there_are_at_least_thirty_with_different_names():
    everything = [*MUTATIONS, *FAULTS]
    assert len({mutation.name for mutation in everything}) == len(everything) >= 60


@pytest.mark.parametrize(
    "status, seen",
    [(0, False), (1, True), (2, True), (5, False)]
    + [(-signal.SIGUSR1, True), (-signal.SIGSEGV, True), (-signal.SIGKILL, False)],
)
def test_a_mutation_that_kills_pytest_is_seen(status, seen):
    """As one that lets a signal through; unless the system killed it."""
    assert judged(status)[0] is seen
