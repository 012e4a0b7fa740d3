"""The weighted nearest-neighbour classifier on frozen features.

Wu et al. 2018 (https://arxiv.org/abs/1805.01978), section 3.4: each of the k nearest
training features, by cosine, votes for its label with weight exp(cosine / T). The
search is in `neighbours`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from byol_bnfree.config import KNN_K, KNN_TEMPERATURE
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.methods.neighbours import BLOCKS, nearest_blocks


def knn_accuracy(
    train_features: Float[np.ndarray, "n d"],
    train_labels: Int[np.ndarray, " n"],
    test_features: Float[np.ndarray, "m d"],
    test_labels: Int[np.ndarray, " m"],
    *,
    num_classes: int,
    k: int = KNN_K,
    temperature: float = KNN_TEMPERATURE,
    mesh: Mesh | None = None,
) -> float:
    """Return the share of test features whose label `knn_predict` finds, in [0, 1].

    Raises:
      InputError: as `knn_predict`, and for test labels that do not fit.
    """
    check_labels("test", test_labels, len(test_features), num_classes)
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
    k: int = KNN_K,
    temperature: float = KNN_TEMPERATURE,
    test_block: int = BLOCKS[0],
    bank_block: int = BLOCKS[1],
    mesh: Mesh | None = None,
) -> Int[np.ndarray, " m"]:
    """Predict the label of each test feature by a weighted vote of its k neighbours.

    Features need not be normalized. `k` is at most n. An exact tie of votes goes to the
    lower label. `test_block` x `bank_block` float32 numbers bound the memory. They do
    not change the result, except where equal cosines compete for the last places among
    the k neighbours, as those of copies of a picture with other labels do. A `mesh`
    with an axis `data` distributes the test rows.

    Raises:
      InputError: if there is no training feature, features are not finite or of
        different widths, or a training feature has no label from 0 to num_classes - 1.

    References: Wu et al. 2018, https://arxiv.org/abs/1805.01978, section 3.4.
    """
    check_features("training", train_features)
    check_features("test", test_features, train_features.shape[1])
    check_labels("training", train_labels, len(train_features), num_classes)
    found = nearest_blocks(
        train_features,
        train_labels,
        test_features,
        k,
        blocks=(test_block, bank_block),
        mesh=mesh,
    )
    votes = [np.asarray(_vote(*block, temperature, num_classes)) for block in found]
    # Without test features there is no block. The last block is padded.
    return np.concatenate([*votes, np.zeros(0, np.int32)])[: len(test_features)]


def check_features(kind: str, features: Any, width: int | None = None) -> None:
    """Raise `InputError` unless `features` are an array [n d] of finite numbers.

    `width` is d if it is known.
    """
    if getattr(features, "ndim", None) != 2:
        found = getattr(features, "shape", type(features).__name__)
        raise InputError(f"{kind} features are {found}; give an array [n d].")
    if width not in (None, features.shape[1]):
        raise InputError(
            f"{kind} features have {features.shape[1]} numbers and training features "
            f"{width}; give those of one encoder."
        )
    if not np.isfinite(features).all():
        raise InputError(
            f"{kind} features are not all finite; give those of an encoder that has "
            f"not diverged."
        )


def check_labels(
    kind: str, labels: Int[np.ndarray, " n"], rows: int, num_classes: int
) -> None:
    """Raise `InputError` unless there is a label from 0 to num_classes - 1 per row."""
    if np.shape(labels) != (rows,):
        raise InputError(
            f"{kind} labels are {np.shape(labels)}, but there are {rows} features; "
            f"give one label per feature."
        )
    if rows and not (np.min(labels) >= 0 and np.max(labels) < num_classes):
        raise InputError(
            f"{kind} labels are {np.min(labels)} to {np.max(labels)}, but num_classes "
            f"is {num_classes}; give labels from 0 to {num_classes - 1}."
        )


@partial(jax.jit, static_argnames="num_classes")
def _vote(
    cosine: Float[Array, "b k"],
    labels: Int[Array, "b k"],
    temperature: Float[Array, ""] | float,
    num_classes: int,
) -> Int[Array, " b"]:
    # Relative to the nearest: the vote is the same, and low temperatures cannot
    # overflow.
    weights = jnp.exp((cosine - cosine[:, :1]) / temperature)
    rows = jnp.arange(len(labels))[:, None]
    votes = jnp.zeros((len(labels), num_classes)).at[rows, labels].add(weights)
    return jnp.argmax(votes, axis=1).astype(jnp.int32)
