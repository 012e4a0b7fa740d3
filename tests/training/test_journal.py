"""A step's row is written as soon as the device need not wait for it."""

import jax
import pytest

import runs
from byol_bnfree import parse_args, train
from byol_bnfree.training.journal import Journal
from byol_bnfree.training.logs import MetricsLog


@pytest.mark.parametrize("dispatched", [True, False])
def test_rows_follow_their_step_or_the_next(dispatched, monkeypatch, tmp_path):
    batches, written = [], {}
    next_batch, write = Journal.next_batch, MetricsLog.write

    def counted(self, stream):
        batches.append(None)
        return next_batch(self, stream)

    def recorded(self, step, metrics):
        written[step] = len(batches)
        write(self, step, metrics)

    monkeypatch.setattr(Journal, "next_batch", counted)
    monkeypatch.setattr(MetricsLog, "write", recorded)
    before = jax.config.read("jax_cpu_enable_async_dispatch")
    jax.config.update("jax_cpu_enable_async_dispatch", dispatched)
    try:
        arguments = [*runs.ARGUMENTS, f"--workdir={tmp_path}", "--run.log-every=1"]
        train(parse_args(arguments))
    finally:
        jax.config.update("jax_cpu_enable_async_dispatch", before)
    late = 1 if dispatched else 0
    assert written == {step: min(step + late, 4) for step in range(1, 5)}
