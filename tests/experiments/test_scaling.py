"""The arithmetic of docs/scaling.md, and that the page shows what was measured."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.scaling.__main__ import MEASURED, markdown
from experiments.scaling.estimate import Machine, estimate

DOCS = Path(__file__).parents[2] / "docs" / "scaling.md"
FOUND = {
    "flop_per_image": 1e9,
    "flop_constant": 0.0,
    "temporary_bytes_per_image": 1e9,
    "state_bytes": 2e9,
    "sharded_state_bytes": {"8": 1, "512": 2},
    "communication": {
        "bytes": {"gradient": 8e8, "batch statistics": 0},
        "statistics_collectives": 100,
    },
}
MACHINE = Machine(
    tflops=1, utilization=0.5, memory_gb=18, link_gb=1, latency_us=1, disk_gb=1
)


def test_a_step_is_compute_and_rings_and_waits():
    step = estimate("bn", 8, 4096, FOUND, MACHINE)
    assert step.compute == pytest.approx(512 * 1e9 / 0.5e12)
    assert step.gradient == pytest.approx(2 * 7 / 8 * 0.8)
    assert step.statistics == pytest.approx(100 * 2 * 3 * 1e-6)
    assert step.rate == pytest.approx(4096 / step.seconds)
    assert step.micro_batches == 32  # 512 GB in 16 GB


def test_what_fits_at_once_needs_no_micro_batches():
    large = replace(MACHINE, memory_gb=1e4)
    assert estimate("bn", 512, 4096, FOUND, MACHINE).micro_batches == 1
    assert estimate("bn", 8, 4096, FOUND, large).micro_batches == 1


def test_the_page_shows_the_tables_of_what_was_measured():
    page = DOCS.read_text()
    measured = json.loads(MEASURED.read_text())["norms"]
    for table in markdown(measured, Machine()).split("\n\n"):
        assert table.strip() in page
