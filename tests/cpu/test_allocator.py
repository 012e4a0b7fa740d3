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


LIMITED = """
import resource, sys
from byol_bnfree.cpu.allocator import keep_freed_memory
from byol_bnfree.machine.memory import machine_bytes

def reserved():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(l for l in lines if l.startswith("VmSize")).split()[1])

if sys.argv[1] != "none":
    resource.setrlimit(getattr(resource, sys.argv[1]), (2**40, 2**40))
before, half = reserved(), machine_bytes() // 2
keep_freed_memory()
print((reserved() - before) / half)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
@pytest.mark.parametrize(
    "limit, share", [("none", 1), ("RLIMIT_AS", 0), ("RLIMIT_DATA", 0)]
)
def test_memory_is_reserved_only_where_it_is_not_rationed(monkeypatch, limit, share):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    command = [sys.executable, "-c", LIMITED, limit]
    found = subprocess.run(command, capture_output=True, check=True).stdout
    assert float(found) == pytest.approx(share, abs=0.1)


def test_without_glibc_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)  # fails if it is called
    allocator.keep_freed_memory()
