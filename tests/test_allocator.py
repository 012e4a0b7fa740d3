"""Freed memory is used again instead of being given back and cleared anew."""

import json
import platform
import subprocess
import sys

import pytest

from byol_bnfree import allocator

FAULTS = """
import json, resource, sys
import numpy as np
from byol_bnfree.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(2**24, 1, np.uint8).sum(), np.full(2**25, 1, np.uint8).sum()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(json.dumps([faults() for _ in range(4)]))
"""


def page_faults(word):
    """Of four rounds that each take and free 48 MiB."""
    command = [sys.executable, "-c", FAULTS, word]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_memory_taken_again_has_no_page_faults(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    kept, given_back = page_faults("keep"), page_faults("give back")
    assert max(kept[1:]) < 100 < min(given_back[1:])


def test_without_glibc_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)  # fails if it is called
    allocator.share_one_heap()
    allocator.keep_freed_memory()
