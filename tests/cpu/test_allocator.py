"""Freed memory is used again instead of being given back and cleared anew."""

import json
import platform
import subprocess
import sys

import pytest

from byol_bnfree.cpu import allocator

FAULTS = """
import json, resource, sys
import jax
import jax.numpy as jnp
from byol_bnfree.cpu.allocator import keep_freed_memory, run_in_calling_thread

run_in_calling_thread()
doubled = lambda x: jax.lax.fori_loop(0, 2, lambda _, x: 2 * x, x)
program = jax.jit(lambda x: jnp.max(doubled(jnp.full((5000, 5000), x))))
x = jnp.ones(())  # of it, 100 MB of temporaries
program(x)
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    program(x).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(json.dumps([faults() for _ in range(9)]))
"""


def page_faults(word):
    """Of nine runs of a program that takes and frees 100 MB."""
    command = [sys.executable, "-c", FAULTS, word]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_memory_taken_again_has_no_page_faults(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    kept, given_back = page_faults("keep"), page_faults("give back")
    assert sorted(kept)[4] < 100 < sorted(given_back)[4]


def test_without_glibc_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)  # fails if it is called
    allocator.keep_freed_memory()
