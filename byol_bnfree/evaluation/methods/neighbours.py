"""Exact search for the nearest rows of a bank of features, in blocks.

The memory is bounded for a bank of any size. Cosines exist for one block of queries and
one block of bank rows at a time. A running top-k is merged over the bank's blocks,
which go to the device one after the other. The bank may be float16, which halves its
memory: each block becomes float32 on the device. Several devices share the rows of a
query block.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from byol_bnfree.errors import InputError
from byol_bnfree.training.mesh import whole_multiple

BLOCKS = 256, 65_536  # rows of queries and of the bank compared at a time
_GROUP = 16  # columns that share a maximum in the search; any value is exact


def nearest(
    bank: Float[np.ndarray, "n d"], queries: Float[np.ndarray, "m d"], k: int
) -> tuple[Int[np.ndarray, "m j"], Float[np.ndarray, "m j"]]:
    """Return the bank rows with the highest cosines, best first, and the cosines.

    `j` is the smaller of k and n. Features need not be normalized.

    Raises:
      InputError: if the bank is empty.
    """
    found = nearest_blocks(bank, np.arange(len(bank)), queries, k)
    if not found:  # no queries
        j = min(k, len(bank))
        return np.zeros((0, j), np.int32), np.zeros((0, j), np.float32)
    cosines, rows = (
        np.concatenate(part)[: len(queries)] for part in zip(*found, strict=True)
    )
    return rows, cosines


def nearest_blocks(
    bank: Float[np.ndarray, "n d"],
    values: Int[np.ndarray, " n"],
    queries: Float[np.ndarray, "m d"],
    k: int,
    *,
    blocks: tuple[int, int] = BLOCKS,
    mesh: Mesh | None = None,
) -> list[tuple[Float[Array, "b j"], Int[Array, "b j"]]]:
    """Return cosines and values of the nearest rows, one block of queries per item.

    All blocks have one shape; the last one is padded. `blocks` (rows of queries, rows
    of the bank) bounds the memory, one float32 per pair. It does not change the result,
    except which of several rows with exactly equal cosines are found, and their order.
    A `mesh` with an axis `data` distributes the queries.

    Raises:
      InputError: if the bank is empty.
    """
    n, m = len(bank), len(queries)
    if n == 0:
        raise InputError("kNN was given 0 training features; it needs at least 1.")
    k = min(k, n)
    bank_block = max(k, min(blocks[1], n))
    devices = 1 if mesh is None else mesh.shape["data"]
    rows = whole_multiple(max(1, min(blocks[0], m)), devices)
    by_row, everywhere, merge = _placement(mesh)
    asked = [
        by_row(_unit_rows(_pad_rows(queries[i : i + rows], rows)))
        for i in range(0, m, rows)
    ]
    nothing = jnp.full((rows, k), -jnp.inf), jnp.zeros((rows, k), jnp.int32)
    best = [by_row(nothing) for _ in asked]
    # The bank is the outer loop, so each of its blocks goes to the device once.
    for start in range(0, n, bank_block):
        span = slice(start, start + bank_block)
        features = _unit_rows(_pad_rows(bank[span], bank_block))
        found = jnp.asarray(_pad_rows(values[span], bank_block), jnp.int32)
        block = everywhere((features, found))
        valid = everywhere(jnp.asarray(min(bank_block, n - start)))
        before = best
        best = [merge(b, q, block, valid) for b, q in zip(best, asked, strict=True)]
        jax.block_until_ready(before)  # otherwise all blocks could be there at once
    return best


def _placement(mesh: Mesh | None) -> tuple[Callable, Callable, Callable]:
    """Return functions that distribute rows, replicate a block, and merge a block."""
    if mesh is None or mesh.size == 1:
        return (lambda x: x), (lambda x: x), _merge_block
    rows, everywhere = PartitionSpec("data"), PartitionSpec()
    # Without shard_map the compiler would gather all rows for the top-k search.
    merge = jax.shard_map(
        _merge_block,
        mesh=mesh,
        in_specs=(rows, rows, everywhere, everywhere),
        out_specs=rows,
    )
    return (
        lambda x: jax.device_put(x, NamedSharding(mesh, rows)),
        lambda x: jax.device_put(x, NamedSharding(mesh, everywhere)),
        jax.jit(merge),
    )


def _pad_rows(rows: np.ndarray, count: int) -> np.ndarray:
    """Append zero rows, so that all blocks have one shape and compile once."""
    missing = count - len(rows)
    return np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1))


@jax.jit
def _unit_rows(x: Float[Array | np.ndarray, "b d"]) -> Float[Array, "b d"]:
    x = jnp.asarray(x, jnp.float32)
    return x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), 1e-12)


@jax.jit
def _merge_block(
    best: tuple[Float[Array, "b k"], Int[Array, "b k"]],
    queries: Float[Array, "b d"],
    bank: tuple[Float[Array, "n d"], Int[Array, " n"]],
    valid: Int[Array, ""] | int,
) -> tuple[Float[Array, "b k"], Int[Array, "b k"]]:
    """Update the (cosines, labels) of the k nearest with a block of the bank."""
    features, labels = bank
    # TF32 and bfloat16 products would reorder close neighbours, hence HIGHEST.
    cosine = jnp.matmul(queries, features.T, precision=jax.lax.Precision.HIGHEST)
    cosine = jnp.where(jnp.arange(len(labels))[None, :] < valid, cosine, -jnp.inf)
    values, indices = _top_k(cosine, best[0].shape[1])
    values = jnp.concatenate([best[0], values], axis=1)
    found = jnp.concatenate([best[1], labels[indices]], axis=1)
    values, keep = jax.lax.top_k(values, best[0].shape[1])
    return values, jnp.take_along_axis(found, keep, axis=1)


def _top_k(
    x: Float[Array, "b n"], k: int
) -> tuple[Float[Array, "b k"], Int[Array, "b k"]]:
    """Act as `jax.lax.top_k`, but several times faster if n is much larger than k.

    It is exact. Each of the k largest elements lies in one of the k groups with the
    largest maxima: otherwise k groups would each hold a larger element. Only these
    groups are searched.
    """
    groups = -(-x.shape[1] // _GROUP)
    if groups <= k:
        values, indices = jax.lax.top_k(x, k)
        return values, indices
    missing = groups * _GROUP - x.shape[1]
    x = jnp.pad(x, ((0, 0), (0, missing)), constant_values=-jnp.inf)
    # Group g holds columns g, g + groups, g + 2 groups, ..., so the maxima vectorize.
    x = rearrange(x, "b (s g) -> b s g", g=groups)
    _, chosen = jax.lax.top_k(x.max(axis=1), k)
    candidates = jnp.take_along_axis(x, chosen[:, None, :], axis=2)
    values, flat = jax.lax.top_k(rearrange(candidates, "b s k -> b (s k)"), k)
    group = jnp.take_along_axis(chosen, flat % k, axis=1)
    return values, flat // k * groups + group
