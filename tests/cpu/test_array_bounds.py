"""The CPU kernels read and write their own arrays only.

oneDNN's code is made while it runs, so no sanitizer sees it. Here each large array ends
at a page that nobody may touch.
"""

import os
import subprocess
import sys

import pytest

from byol_bnfree.cpu import native

pytestmark = pytest.mark.skipif(
    native.register() is not None, reason="needs the cpu extra and a compiler"
)

GUARD = r"""
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { kPage = 4096 };
enum { kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE };
static const size_t kAll = (size_t)1 << 36;  /* addresses, not memory */
static char *begin, *next;

static void* real(const char* name) { return dlsym(RTLD_NEXT, name); }

/* XLA's arrays and the kernels' own ask for the alignment of a cache line. */
static void* guarded(size_t alignment, size_t size) {
  const size_t used = (size + alignment - 1) / alignment * alignment;
  const size_t pages = (used + kPage - 1) / kPage * kPage;
  if (!begin)
    begin = mmap(0, kAll, PROT_NONE, kFlags, -1, 0);
  char* block = __atomic_fetch_add(&next, pages + kPage, __ATOMIC_SEQ_CST);
  block += (uintptr_t)begin;
  if (mprotect(block, pages, PROT_READ | PROT_WRITE)) abort();
  return block + pages - used;
}
static int applies(size_t alignment) { return alignment >= 64 && alignment <= kPage; }
void* aligned_alloc(size_t alignment, size_t size) {
  if (applies(alignment)) return guarded(alignment, size);
  return ((void* (*)(size_t, size_t))real("aligned_alloc"))(alignment, size);
}
void* memalign(size_t alignment, size_t size) {
  if (applies(alignment)) return guarded(alignment, size);
  return ((void* (*)(size_t, size_t))real("memalign"))(alignment, size);
}
int posix_memalign(void** result, size_t alignment, size_t size) {
  if (!applies(alignment))
    return ((int (*)(void**, size_t, size_t))real("posix_memalign"))(
        result, alignment, size);
  *result = guarded(alignment, size);
  return 0;
}
void free(void* p) {
  static void (*other)(void*);
  /* The address of a guarded array is never used again. */
  if (begin && (char*)p >= begin && (char*)p < begin + kAll) return;
  if (!other) other = (void (*)(void*))real("free");
  other(p);
}
"""

PROGRAM = """
import itertools
import jax, jax.numpy as jnp
from byol_bnfree.cpu import convolution, native

assert native.register() is None
for channels, size, stride, standardized in itertools.product(
    (1, 4, 7, 8, 12, 16), (1, 3), (1, 2, 3), (False, True)
):
    images = jnp.ones((4, 16, 16, channels))
    kernel = jnp.ones((size, size, channels, 8))
    pad = (size // 2,) * 2

    def loss(images, kernel):
        y = convolution.convolve(
            images, kernel, (stride, stride), (pad, pad), standardized
        )
        return y.sum()

    print(channels, size, stride, standardized, flush=True)
    jax.block_until_ready(jax.grad(loss, (0, 1))(images, kernel))
print("done")
"""


def test_no_convolution_writes_beside_its_arrays(tmp_path):
    source, library = tmp_path / "guard.c", tmp_path / "guard.so"
    source.write_text("#define _GNU_SOURCE\n" + GUARD)
    command = ["cc", "-O1", "-shared", "-fPIC", source, "-o", library, "-ldl"]
    subprocess.run(command, check=True)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "LD_PRELOAD": str(library), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"died in {done.stdout.splitlines()[-1:]}"
    assert done.stdout.splitlines()[-1] == "done"
