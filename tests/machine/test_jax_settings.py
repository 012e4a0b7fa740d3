"""What JAX and XLA cannot start with is a sentence and status 2."""

import os
import subprocess
import sys

import pytest

from byol_bnfree.errors import InputError
from byol_bnfree.machine.jax_settings import QUICK_TO_COMPILE, check_xla_flags

SCRIPT = """
from byol_bnfree.command_line import exit_on_error

def main():
    import jax
    jax.devices()

exit_on_error(main)
"""


@pytest.mark.parametrize(
    "name, value, reason",
    [
        ("JAX_PLATFORMS", "cuda", "no such device"),
        ("JAX_PLATFORMS", "nonsense", "not in the list of known backends"),
        ("JAX_NUM_CPU_DEVICES", "many", "Invalid value"),
        ("JAX_NUM_CPU_DEVICES", "0", "Unable to initialize backend 'cpu'"),
        ("JAX_ENABLE_X64", "maybe", "invalid truth value"),
        ("XLA_FLAGS", "--nonsense", "Unknown flag"),
    ],
)
def test_a_command_says_what_jax_cannot_start_with(name, value, reason):
    if (name, value) == ("JAX_PLATFORMS", "cuda"):
        jax = pytest.importorskip("jax")
        if any(device.platform == "gpu" for device in jax.devices()):
            pytest.skip("there is a GPU")
    environment = os.environ | {name: value}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    *_, last = done.stderr.splitlines()
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"cannot start with {name}={value} (" in last and reason in last


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_float64_is_refused_because_it_would_be_another_run(command):
    environment = os.environ | {"JAX_ENABLE_X64": "1"}
    asked = [sys.executable, "-m", f"byol_bnfree.{command}", "--workdir=none"]
    done = subprocess.run(asked, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "JAX is set to float64" in done.stderr


@pytest.mark.parametrize(
    "name, value",
    [("JAX_DEFAULT_PRNG_IMPL", "rbg"), ("JAX_THREEFRY_PARTITIONABLE", "0")],
)
def test_other_random_draws_are_refused_because_they_would_be_another_run(name, value):
    script = "from byol_bnfree.machine import jax_settings; jax_settings.check_draws()"
    command = [sys.executable, "-c", script]
    environment = os.environ | {name: value}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "InputError: JAX is set to" in done.stderr and f"({name})" in done.stderr


@pytest.mark.parametrize("flags", ["", "--xla_cpu_enable_fast_math=true"])
def test_flags_that_xla_knows_are_left_alone(flags, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    check_xla_flags()


def test_a_value_that_xla_cannot_read_is_named(monkeypatch):
    flag = "--xla_force_host_platform_device_count=two"
    monkeypatch.setenv("XLA_FLAGS", flag)
    with pytest.raises(InputError, match=f"XLA_FLAGS={flag} .*Couldn't interpret"):
        check_xla_flags()


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, AssertionError])
def test_an_error_of_ours_stays_one(kind):
    script = f"{SCRIPT}\ndef main():\n    raise {kind.__name__}('ours')\n"
    script += "exit_on_error(main)"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" in done.stderr and "ours" in done.stderr


def test_tests_compile_as_short_checks_do():
    assert os.environ["XLA_FLAGS"].startswith(f"{QUICK_TO_COMPILE} ")
