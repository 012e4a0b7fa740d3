"""The ImageNet arms, of which only the program can be looked at here."""

import pytest

from experiments.grid import load_experiment, make_runs
from experiments.paper_scale import lower
from experiments.scales import SCALES


@pytest.mark.slow
def test_a_step_of_64_micro_batches_is_lowered_for_accelerators_as_a_loop():
    runs = make_runs(load_experiment("batch_size"), SCALES["paper"], (0,))
    (run,) = (run for run in runs if run.arm == "gn_ws-64")
    found = lower(run)
    assert (found.parameters, found.steps) == (37_115_944, 93_835)
    assert found.operations < 200_000  # one copy has 70,000, and 64 would have millions
