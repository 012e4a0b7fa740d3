"""The weighted nearest-neighbour classifier on frozen features.

Wu et al. 2018 (https://arxiv.org/abs/1805.01978), section 3.4: each of the k nearest
training features, by cosine, votes for its label with weight exp(cosine / T). The
search is in `neighbours`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from byol_bnfree.config import KNN_K, KNN_TEMPERATURE
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
    """Return the share of test features whose label `knn_predict` finds, in [0, 1]."""
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
      InputError: if there is no training feature.

    References: Wu et al. 2018, https://arxiv.org/abs/1805.01978, section 3.4.
    """
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
