"""The list of `PYTHONPATH=tests python -m mutation` is up to date."""

from pathlib import Path

import pytest

from mutation.faults import FAULTS
from mutation.mutations import MUTATIONS

PACKAGE = Path(__file__).parents[1] / "byol_bnfree"


@pytest.mark.parametrize("mutation", [*MUTATIONS, *FAULTS], ids=lambda m: m.name)
def test_the_line_of_a_mutation_stands_once_in_its_file(mutation):
    text = (PACKAGE / mutation.file).read_text()
    assert text.count(mutation.before) == 1
    assert mutation.before != mutation.after


def test_there_are_at_least_thirty_with_different_names():
    everything = [*MUTATIONS, *FAULTS]
    assert len({mutation.name for mutation in everything}) == len(everything) >= 60
