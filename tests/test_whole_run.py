"""`train` in other people's programs: rows, encoder, threads, nothing left behind."""

import json
import logging
import signal
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

import runs
from byol_bnfree import parse_args, train
from byol_bnfree.cpu import allocator


def config(workdir, *flags):
    flags = ("--run.log-every=1", *flags)  # the same program for all
    return parse_args([*runs.ARGUMENTS, *flags, f"--workdir={workdir}"])


def test_rows_are_handed_on_and_the_encoder_is_returned(tmp_path):
    rows = []
    trained = train(config(tmp_path), rows.append)
    written = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert rows == [json.loads(line) for line in written] and len(rows) == 4
    assert trained == json.loads((tmp_path / "summary.json").read_text())
    assert trained.workdir == tmp_path and trained.encoder.step == 4
    images = np.zeros((2, 16, 16, 3), np.uint8)
    assert trained.encoder(images).shape == (2, 16)
    assert train(config(tmp_path)).encoder.step == 4  # finished, and the same


class Enough(Exception):
    pass


@pytest.mark.slow
def test_an_exception_of_on_row_ends_the_run_and_it_is_resumed(tmp_path):
    """Up to two steps later, so the first row raises it."""
    seen = []

    def stop(row):
        seen.append(row["step"])
        if row["step"] == 1:
            raise Enough

    with pytest.raises(Enough):
        train(config(tmp_path), stop)
    with pytest.raises(Enough):
        train(config(tmp_path, "--seed=0"), lambda row: stop(row | {"step": 1}))
    assert seen == [1, 1]  # and never after it has raised
    assert train(config(tmp_path))["steps"] == 4


def test_it_trains_outside_the_main_thread(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(train, config(tmp_path)).result()["steps"] == 4


def process_settings():
    handlers = [signal.getsignal(n) for n in sorted(signal.valid_signals())]
    return {
        "signals": handlers,
        "excepthook": sys.excepthook,
        "absl": list(logging.getLogger("absl").filters),
        "root log": list(logging.getLogger().handlers),
        "warnings": list(warnings.filters),
        "cache": jax.config.jax_compilation_cache_dir,
        "dispatch": jax.config.read("jax_cpu_enable_async_dispatch"),
    }


@pytest.mark.slow
def test_its_callers_process_stays_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(allocator, "_glibc", None)  # fails if malloc is told anything
    before = process_settings()
    train(config(tmp_path / "run", f"--run.compilation-cache={tmp_path}"))
    assert process_settings() == before


def test_the_rate_leaves_out_the_step_that_compiles(tmp_path):
    rows = []
    trained = train(config(tmp_path), rows.append)
    assert rows[0]["perf/images_per_s"] is None
    assert rows[0]["perf/first_step_seconds"] <= rows[0]["perf/seconds"]
    rates = [row["perf/images_per_s"] for row in rows[1:]]
    assert min(rates) <= trained["images_per_s"] <= max(rates)
