"""Two CPU devices, no silent rank promotion, and programs compiled quickly and once.

Set in the environment, so that command lines started by tests share it.
"""

import atexit
import os
import shutil
import signal
import tempfile
from importlib.metadata import version

# A script may have begun the tests with ignored signals, which programs inherit.
for _number, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _usual)

os.environ["JAX_NUM_CPU_DEVICES"] = "2"  # before jax starts
os.environ["JAX_PLATFORMS"] = os.environ.get("TESTS_ON", "cpu")  # of experiments/gpu.sh
# `jax_settings.QUICK_TO_COMPILE`, and programs in one part: each worker has one core.
# The package is not imported here: `mutation` imports this file, and then tests wrong
# copies of the package.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 "
if version("jaxlib").startswith("0.10."):
    os.environ["XLA_FLAGS"] += "--xla_cpu_use_fusion_emitters=false "
os.environ["XLA_FLAGS"] += "--xla_cpu_parallel_codegen_split_count=1"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # workers inherit it
    _cache = tempfile.mkdtemp(prefix="jax-cache-")
    atexit.register(shutil.rmtree, _cache, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

import jax  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
