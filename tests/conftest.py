"""Two CPU devices, no silent rank promotion, and programs compiled quickly and once.

Set in the environment, so that command lines started by tests share it.
"""

import atexit
import os
import shutil
import tempfile

from byol_bnfree.jax_settings import QUICK_TO_COMPILE

os.environ["JAX_NUM_CPU_DEVICES"] = "2"  # before jax starts
os.environ["JAX_PLATFORMS"] = os.environ.get("TESTS_ON", "cpu")  # of experiments/gpu.sh
os.environ["XLA_FLAGS"] = QUICK_TO_COMPILE
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # workers inherit it
    _cache = tempfile.mkdtemp(prefix="jax-cache-")
    atexit.register(shutil.rmtree, _cache, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

import jax  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
