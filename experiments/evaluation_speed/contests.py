"""The programs to time: ours and others, on the same input."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from byol_bnfree import TrainConfig, create_encoder
from byol_bnfree.cpu.choice import choose_kernels
from byol_bnfree.data.sources import MemorySource
from byol_bnfree.encoder import Encoder
from byol_bnfree.evaluation import encoder_features, fit_logistic, knn_predict
from byol_bnfree.evaluation.methods.logistic import standardizer

Contest = tuple[str, dict[str, Callable[[], object]]]
NETWORKS = {
    "resnet14, stride 2": {"name": "resnet14", "stem_stride": 2},
    "resnet18": {"name": "resnet18"},
}
BATCH, BATCHES = 512, {"resnet14, stride 2": 20, "resnet18": 2}
CLASSES, K, TEMPERATURE = 10, 20, 0.1


def features() -> Iterator[Contest]:
    """Features of images in memory, of the recipes' two CIFAR-10 encoders."""
    kernels = choose_kernels("auto", jax.device_count())
    for network, options in NETWORKS.items():
        for norm in ("bn", "gn_ws"):
            module = create_encoder(**options, norm=norm, stem="small", kernels=kernels)
            example = jnp.zeros((2, 32, 32, 3))
            variables = jax.jit(partial(module.init, train=True))(
                jax.random.key(0), example
            )
            encoder = Encoder(module, variables, TrainConfig(), 0)
            count = BATCH * BATCHES[network]
            yield f"{count:,} features, {network}, {norm}", extractors(encoder, count)


def extractors(encoder: Encoder, count: int) -> dict[str, Callable[[], object]]:
    """`encoder_features`, the forward pass alone, and a loop that waits for each."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    names = tuple("0123456789")
    source = MemorySource("noise", "test", names, pixels, np.zeros(count, np.int32), {})
    # Weights are arguments: as constants they would be standardized by the compiler.
    forward = jax.jit(
        lambda v, images: dataclasses.replace(encoder, variables=v)(images)
    )
    ready = jnp.asarray(pixels[:BATCH])

    def bare() -> object:
        runs = [forward(encoder.variables, ready) for _ in range(count // BATCH)]
        return jax.block_until_ready(runs)

    def plain() -> object:
        starts = range(0, count, BATCH)
        batches = (pixels[i : i + BATCH] for i in starts)
        return np.concatenate([forward(encoder.variables, b) for b in batches])

    ours = partial(encoder_features, encoder, source, batch_size=BATCH)
    return warmed({"ours": ours, "forward pass alone": bare, "plain loop": plain})


def knn() -> Iterator[Contest]:
    """Time the weighted vote of the 20 nearest neighbours."""
    bank, labels = representations(50_000, 512, seed=0)
    tests, _ = representations(10_000, 512, seed=1)
    ours = partial(
        knn_predict, bank, labels, tests, CLASSES, k=K, temperature=TEMPERATURE
    )
    theirs = partial(numpy_knn, bank, labels, tests)
    product = jax.jit(lambda a, b: (a @ b.T).max(axis=1))

    def products() -> object:  # in blocks: all cosines are 2 GB
        blocks = [product(tests[i : i + 1000], bank) for i in range(0, 10_000, 1000)]
        return jax.block_until_ready(blocks)

    assert (ours() == theirs()).mean() > 0.999, "they should find the same"
    runners = {"ours": ours, "NumPy": theirs, "matrix product alone": products}
    yield "kNN, 10,000 against 50,000 x 512", warmed(runners)


def numpy_knn(
    bank: np.ndarray, labels: np.ndarray, tests: np.ndarray, block: int = 1000
) -> np.ndarray:
    """Time a simple program: argpartition of a block's cosines."""
    bank, tests = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, tests))
    predicted = []
    for start in range(0, len(tests), block):
        cosines = tests[start : start + block] @ bank.T
        found = np.argpartition(-cosines, K, axis=1)[:, :K]
        weights = np.exp(np.take_along_axis(cosines, found, axis=1) / TEMPERATURE)
        votes = np.zeros((len(cosines), CLASSES))
        rows = np.arange(len(cosines))[:, None]
        np.add.at(votes, (rows, labels[found]), weights)
        predicted.append(votes.argmax(axis=1))
    return np.concatenate(predicted)


def linear_cached() -> Iterator[Contest]:
    """All 45 strengths and the refit, and scikit-learn's one fit without choice."""
    from sklearn.linear_model import LogisticRegression

    train, labels = representations(50_000, 512, seed=0)

    def theirs() -> object:
        mean, scale = standardizer(train)
        return LogisticRegression(C=1.0).fit((train - mean) / scale, labels)

    ours = partial(fit_logistic, train, labels, CLASSES)
    yield (
        "linear_cached, 45 strengths, 50,000 x 512",
        {"ours": ours, "scikit-learn, 1 strength": theirs},
    )


def representations(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of overlapping classes whose variances fall as 1 / rank, as real do."""
    centers = np.random.default_rng(9).standard_normal((CLASSES, d), np.float32)
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, CLASSES, n)
    noise = draws.standard_normal((n, d), np.float32)
    scale = (1 + np.arange(d, dtype=np.float32)) ** -0.5
    return (centers[labels] + 6 * noise) * scale, labels


def warmed(runners: dict[str, Callable[[], object]]) -> dict[str, Callable]:
    """Run each contestant once, which compiles it, and return it."""
    for run in runners.values():
        run()
    return runners


CONTESTS = {"features": features, "knn": knn, "linear_cached": linear_cached}
