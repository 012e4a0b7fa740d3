"""The measuring programs answer `--help` and a wrong flag at once."""

import subprocess
import sys

import pytest

PROGRAMS = (
    *("decoding", "dense", "evaluation_speed", "scaling", "throughput"),
    "decoding.loaders",
    *("throughput.cliffs", "throughput.first_step", "throughput.hotspots"),
    "throughput.overhead",
)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_and_wrong_flags_need_no_jax(program):
    code = f"""
import runpy, sys
for flag, status in (("--help", 0), ("--wrong", 2)):
    sys.argv = ["x", flag]
    try:
        runpy.run_module("experiments.{program}", run_name="__main__")
    except SystemExit as end:
        assert (end.code or 0) == status, end.code
    assert "jax" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert "usage" in done.stdout
