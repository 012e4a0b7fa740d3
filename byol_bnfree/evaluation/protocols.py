"""Each protocol on a bench: its settings, what it measures, and under which name."""

import dataclasses
from collections.abc import Callable

import numpy as np

from byol_bnfree.evaluation.bench import Bench, Outcome
from byol_bnfree.evaluation.knn import knn_predict
from byol_bnfree.evaluation.store import Row


def knn(bench: Bench) -> Row:
    """Top-1 of the weighted kNN classifier on cached features."""
    settings = dataclasses.asdict(bench.config.knn)

    def measure() -> Outcome:
        predictions = knn_predict(
            bench.train_features,
            bench.train_labels,
            bench.test_features,
            bench.num_classes,
            mesh=bench.mesh,
            **settings,
        )
        return Outcome({"top1": float(np.mean(predictions == bench.test_labels))}, {})

    return bench.measure("knn", settings, measure)


PROTOCOLS: dict[str, Callable[[Bench], Row]] = {"knn": knn}
