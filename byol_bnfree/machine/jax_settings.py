"""Explains environment variables with which JAX or XLA cannot start.

JAX and XLA read them at the start. They answer a wrong value with an assertion, a
traceback, or the end of the process.
"""

import os
import subprocess
import sys
import traceback
from importlib.metadata import version

from byol_bnfree.errors import InputError

# XLA_FLAGS for CPU programs that run once. They compile in half the time (measured with
# jax 0.10.2: 19 s and 10 s for a step of BYOL on one core), and they run slower.
# Later versions need not have the older emitters: 0.12 ends the process at their flag.
QUICK_TO_COMPILE = "--xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):
    QUICK_TO_COMPILE += " --xla_cpu_use_fusion_emitters=false"
THREEFRY = "threefry2x32"
"""JAX's usual kind of random keys, with which runs are defined."""
_READERS = ("xla_bridge.py", "config.py")  # files in jax/_src that read them
_PARSE = "import jaxlib.xla_client as xla; xla.CompileOptions()"


def check_xla_flags() -> None:
    """Raise `InputError` for XLA_FLAGS with which XLA would end the process.

    Another process tries them. This takes 0.2 s if they are set.
    """
    flags = os.environ.get("XLA_FLAGS")
    if not flags:
        return
    command = [sys.executable, "-c", _PARSE]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    said = [line for line in done.stderr.splitlines() if line[:1] in "EF"]
    if done.returncode and said:
        reason = said[0].partition("] ")[2].partition("(")[0].strip().rstrip(".")
        raise InputError(
            f"XLA cannot start with XLA_FLAGS={flags} ({reason}); correct it, or unset "
            f"it."
        )


def check_precision() -> None:
    """Raise `InputError` if JAX computes in float64, which would be another run."""
    import jax

    if jax.config.jax_enable_x64:
        raise InputError(
            "JAX is set to float64 (JAX_ENABLE_X64), which changes the random draws "
            "and the parameters; unset it, because runs are defined in float32."
        )


def check_draws() -> None:
    """Raise `InputError` if JAX draws other random numbers, which is another run.

    Under `vmap`, which draws the views, keys of rbg are not independent: a view would
    depend on the first position of its batch.
    """
    import jax

    impl = jax.config.jax_default_prng_impl
    if impl != THREEFRY:
        raise InputError(
            f"JAX is set to random keys of {impl} (JAX_DEFAULT_PRNG_IMPL), which "
            f"changes the random draws; unset it, because runs are defined with "
            f"{THREEFRY}."
        )
    if not getattr(jax.config, "jax_threefry_partitionable", True):  # may go away
        raise InputError(
            "JAX is set to the older random numbers (JAX_THREEFRY_PARTITIONABLE), "
            "which changes the random draws; unset it, because runs are defined with "
            "the newer ones."
        )


def why_jax_does_not_start(error: BaseException) -> str | None:
    """Explain a JAX error about the environment; None for any other error."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [os.path.split(frame.filename) for frame in frames]
    if not any(
        name in _READERS and os.path.join("jax", "_src") in folder
        for folder, name in inside
    ):
        return None
    # The advice in brackets names JAX_PLATFORMS even if something else is wrong.
    text = str(error).partition("\n")[0].partition(" (")[0].rstrip(".")
    given = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("JAX_") and value
    }
    named = [name for name in given if name in text or name.lower() in text]
    usual = ("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES")
    if "backend 'cpu'" in text:  # it is there, so its number of devices is wrong
        usual = usual[::-1]
    names = named or [name for name in usual if name in given][:1]
    if not names:
        return None
    shown = " and ".join(f"{name}={given[name]}" for name in names)
    # An assertion says nothing: a platform was asked for and has no device.
    reason = text or "no such device"
    return f"JAX cannot start with {shown} ({reason}); correct it, or unset it."
