"""The weighted nearest-neighbour classifier on frozen features, exact and in blocks.

Wu et al. 2018 (https://arxiv.org/abs/1805.01978), section 3.4: each of the k nearest
training features, by cosine, votes for its label with weight exp(cosine / T).

Memory is bounded whatever the size of the bank: cosines exist for one block of test
rows against one block of bank rows at a time, and a running top-k is merged over the
blocks of the bank, which are sent to the device one after the other. The bank may be
float16, half the memory: a block becomes float32 on the device. Several devices share
the rows of a test block.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from byol_bnfree.errors import InputError

_GROUP = 64  # columns that share one maximum in the search; any value is exact


def knn_accuracy(
    train_features: Float[np.ndarray, "n d"],
    train_labels: Int[np.ndarray, " n"],
    test_features: Float[np.ndarray, "m d"],
    test_labels: Int[np.ndarray, " m"],
    *,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.1,
    mesh: Mesh | None = None,
) -> float:
    """Fraction of test features that `knn_predict` gives their own label."""
    predictions = knn_predict(
        train_features,
        train_labels,
        test_features,
        num_classes,
        k=k,
        temperature=temperature,
        mesh=mesh,
    )
    return float(np.mean(predictions == test_labels))


def knn_predict(
    train_features: Float[np.ndarray, "n d"],
    train_labels: Int[np.ndarray, " n"],
    test_features: Float[np.ndarray, "m d"],
    num_classes: int,
    *,
    k: int = 20,
    temperature: float = 0.1,
    test_block: int = 1024,
    bank_block: int = 16_384,
    mesh: Mesh | None = None,
) -> Int[np.ndarray, " m"]:
    """Label of each test feature by a weighted vote of its k nearest training features.

    Features need not be normalized. `k` is capped at n. The block sizes bound the
    memory (test_block x bank_block float32) and do not change the result. An exact
    tie goes to the lower label. `mesh` with an axis `data` spreads the test rows over
    its devices.

    Raises: InputError if there is no training feature.

    References: Wu et al. 2018, https://arxiv.org/abs/1805.01978, section 3.4.
    """
    n, m = len(train_features), len(test_features)
    if n == 0:
        raise InputError("kNN was given 0 training features; it needs at least 1.")
    k = min(k, n)
    bank_block = max(k, min(bank_block, n))
    devices = 1 if mesh is None else mesh.shape["data"]
    test_block = -(-max(1, min(test_block, m)) // devices) * devices
    by_row, everywhere, merge = _placement(mesh)
    tests = [
        by_row(_unit_rows(_pad_rows(test_features[i : i + test_block], test_block)))
        for i in range(0, m, test_block)
    ]
    nothing = jnp.full((test_block, k), -jnp.inf), jnp.zeros((test_block, k), jnp.int32)
    best = [by_row(nothing) for _ in tests]
    # The bank is the outer loop: it is the large side and crosses to the device once.
    for start in range(0, n, bank_block):
        rows = slice(start, start + bank_block)
        features = _unit_rows(_pad_rows(train_features[rows], bank_block))
        labels = jnp.asarray(_pad_rows(train_labels[rows], bank_block), jnp.int32)
        bank = everywhere((features, labels))
        valid = everywhere(jnp.asarray(min(bank_block, n - start)))
        best = [merge(b, t, bank, valid) for b, t in zip(best, tests, strict=True)]
    votes = [_vote(*b, temperature, num_classes) for b in best]
    return np.concatenate([np.asarray(v) for v in votes] or [np.zeros(0, np.int32)])[:m]


def _placement(mesh: Mesh | None) -> tuple[Callable, Callable, Callable]:
    """What puts rows on devices, what repeats a block on all, and `_merge_block`."""
    if mesh is None or mesh.size == 1:
        return (lambda x: x), (lambda x: x), _merge_block
    rows, everywhere = PartitionSpec("data"), PartitionSpec()
    # Not left to the compiler: it would gather the rows for the search of the top k.
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
    """Append zeros so that every block has one shape and compiles once."""
    missing = count - len(rows)
    return np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1))


@jax.jit
def _unit_rows(x: Float[Array | np.ndarray, "b d"]) -> Float[Array, "b d"]:
    x = jnp.asarray(x, jnp.float32)
    return x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), 1e-12)


@jax.jit
def _merge_block(
    best: tuple[Float[Array, "b k"], Int[Array, "b k"]],
    test: Float[Array, "b d"],
    bank: tuple[Float[Array, "n d"], Int[Array, " n"]],
    valid: Int[Array, ""] | int,
) -> tuple[Float[Array, "b k"], Int[Array, "b k"]]:
    """Running (cosines, labels) of the k nearest, after one more block of the bank."""
    features, labels = bank
    # HIGHEST: TF32 and bfloat16 products would reorder close neighbours.
    cosine = jnp.matmul(test, features.T, precision=jax.lax.Precision.HIGHEST)
    cosine = jnp.where(jnp.arange(len(labels))[None, :] < valid, cosine, -jnp.inf)
    values, indices = _top_k(cosine, best[0].shape[1])
    values = jnp.concatenate([best[0], values], axis=1)
    found = jnp.concatenate([best[1], labels[indices]], axis=1)
    values, keep = jax.lax.top_k(values, best[0].shape[1])
    return values, jnp.take_along_axis(found, keep, axis=1)


def _top_k(
    x: Float[Array, "b n"], k: int
) -> tuple[Float[Array, "b k"], Int[Array, "b k"]]:
    """Exact `jax.lax.top_k`, several times faster where n is much larger than k.

    A top-k element always lies in one of the k groups with the largest maxima
    (otherwise k groups would each hold something larger), so that only those groups
    are searched.
    """
    groups = -(-x.shape[1] // _GROUP)
    if groups <= k:
        values, indices = jax.lax.top_k(x, k)
        return values, indices
    missing = groups * _GROUP - x.shape[1]
    x = jnp.pad(x, ((0, 0), (0, missing)), constant_values=-jnp.inf)
    # Group g holds columns g, g + groups, g + 2 groups, ...: maxima vectorize.
    x = rearrange(x, "b (s g) -> b s g", g=groups)
    _, chosen = jax.lax.top_k(x.max(axis=1), k)
    candidates = jnp.take_along_axis(x, chosen[:, None, :], axis=2)
    values, flat = jax.lax.top_k(rearrange(candidates, "b s k -> b (s k)"), k)
    group = jnp.take_along_axis(chosen, flat % k, axis=1)
    return values, flat // k * groups + group


@partial(jax.jit, static_argnames="num_classes")
def _vote(
    cosine: Float[Array, "b k"],
    labels: Int[Array, "b k"],
    temperature: Float[Array, ""] | float,
    num_classes: int,
) -> Int[Array, " b"]:
    # Relative to the nearest: the same vote, and no overflow at low temperatures.
    weights = jnp.exp((cosine - cosine[:, :1]) / temperature)
    rows = jnp.arange(len(labels))[:, None]
    votes = jnp.zeros((len(labels), num_classes)).at[rows, labels].add(weights)
    return jnp.argmax(votes, axis=1).astype(jnp.int32)
