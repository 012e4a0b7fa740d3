"""Figures of an evaluation: an embedding of the test features, the confusion matrix,
and the nearest training images.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from byol_bnfree.evaluation.bench import Bench
from byol_bnfree.evaluation.methods.neighbours import nearest
from byol_bnfree.evaluation.shown.drawing import (
    Neighbourhood,
    draw_confusion,
    draw_embedding,
    draw_neighbours,
)
from byol_bnfree.files import save_figure

QUERIES = NEIGHBOURS = 8  # rows and columns of neighbours.png


def save_pictures(bench: Bench, folder: Path) -> list[Path]:
    """Write embedding.png, confusion.png and neighbours.png; return their paths.

    Without classes there is no confusion.png, and all images are embedded.
    """
    subject = (
        f"{bench.test.name} {bench.test.split}, {bench.network} network at step "
        f"{bench.encoder.step}"
    )
    if bench.train.num_classes is None:
        return _save(_without_classes(bench), folder)
    names, labels = bench.test.class_names, bench.test_labels
    predicted = bench.linear_fit.classifier.scores(bench.test_features).argmax(axis=1)
    top1 = f"linear_cached, top-1 {100 * np.mean(predicted == labels):.1f} %"
    figures = {
        "embedding": draw_embedding(
            *principal_plane(bench.test_features), labels, names, subject
        ),
        "confusion": draw_confusion(
            confusion(predicted, labels, len(names)), names, f"{subject}: {top1}"
        ),
        "neighbours": draw_neighbours(neighbourhoods(bench), subject),
    }
    return _save(figures, folder)


def _without_classes(bench: Bench) -> dict[str, Figure]:
    subject = f"{bench.train.name}, {bench.network} network at step "
    subject += str(bench.encoder.step)
    plane, shares = principal_plane(bench.train_features)
    nobody = np.zeros(len(plane), int)
    return {
        "embedding": draw_embedding(plane, shares, nobody, (), subject),
        "neighbours": draw_neighbours(unlabelled_neighbourhoods(bench), subject),
    }


def _save(figures: dict[str, Figure], folder: Path) -> list[Path]:
    paths = [folder / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        save_figure(path, figure)
    return paths


def principal_plane(
    features: Float[np.ndarray, "n d"],
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " 2"]]:
    """Project features of unit length, as kNN uses them, on two principal components.

    The projection is linear, so points that lie apart in it are apart. Methods that
    embed neighbourhoods also draw clusters where there are none.

    Returns:
      The coordinates [n 2], and each component's share of the variance.
    """
    unit = features.astype(np.float32)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    centered = unit - unit.mean(axis=0)
    variances, axes = np.linalg.eigh(centered.T @ centered)
    shares = variances[:-3:-1] / max(variances.sum(), 1e-12)
    return centered @ axes[:, :-3:-1], shares


def confusion(
    predicted: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], classes: int
) -> Float[np.ndarray, "k k"]:
    """Return the share of each class's images (row) that is predicted as each class."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels, predicted), 1)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def neighbourhoods(bench: Bench) -> list[Neighbourhood]:
    """Return some test images, each with its nearest training images."""
    names = bench.test.class_names
    queries = spread_queries(bench.test_labels)
    rows, cosines = nearest(
        bench.train_features, bench.test_features[queries], NEIGHBOURS
    )
    return [
        Neighbourhood(
            picture=bench.test.images(np.array([query]))[0],
            name=names[bench.test_labels[query]],
            pictures=bench.train.images(found),
            names=[names[label] for label in bench.train_labels[found]],
            cosines=cosine,
        )
        for query, found, cosine in zip(queries, rows, cosines, strict=True)
    ]


def unlabelled_neighbourhoods(bench: Bench) -> list[Neighbourhood]:
    """Return some images with their nearest images, by file names.

    Without classes the test images may be training images too, so we drop an image from
    its own neighbours.
    """
    queries = np.arange(min(QUERIES, len(bench.test)))
    most = min(NEIGHBOURS + 1, len(bench.train))
    rows, cosines = nearest(bench.train_features, bench.test_features[queries], most)
    found = []
    for query, near, cosine in zip(queries, rows, cosines, strict=True):
        (name,), names = (
            bench.test.file_names(np.array([query])),
            np.array(bench.train.file_names(near)),
        )
        others = np.flatnonzero(names != name)[:NEIGHBOURS]
        found.append(
            Neighbourhood(
                picture=bench.test.images(np.array([query]))[0],
                name=name,
                pictures=bench.train.images(near[others]),
                names=names[others].tolist(),
                cosines=cosine[others],
                labelled=False,
            )
        )
    return found


def spread_queries(labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " q"]:
    """Choose up to eight images from as many classes as possible, sorted by class."""
    firsts = np.sort(np.unique(labels, return_index=True)[1])[:QUERIES]
    others = np.setdiff1d(np.arange(len(labels)), firsts)
    chosen = np.concatenate([firsts, others])[: min(QUERIES, len(labels))]
    return chosen[np.argsort(labels[chosen], kind="stable")]
