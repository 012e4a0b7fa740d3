"""Each protocol on a bench: its settings, what it measures, and under which name."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from byol_bnfree.evaluation.bench import Bench, Outcome
from byol_bnfree.evaluation.knn import knn_predict
from byol_bnfree.evaluation.logistic import STRENGTHS, Fit, fit_logistic
from byol_bnfree.evaluation.metrics import top_k_accuracy
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


def linear_cached(bench: Bench) -> Row:
    """Logistic regression on cached features (P1 appendix D.2)."""

    def measure() -> Outcome:
        fit = logistic_fit(bench)
        scores = fit.classifier.scores(bench.test_features)
        chosen = {"strength": fit.strength, "validation_top1": fit.validation}
        return Outcome(top_figures(scores, bench.test_labels), chosen)

    return bench.measure("linear_cached", {"strengths": len(STRENGTHS)}, measure)


def logistic_fit(bench: Bench) -> Fit:
    """The classifier of `linear_cached`."""
    return fit_logistic(
        bench.train_features,
        bench.train_labels,
        bench.num_classes,
        seed=bench.config.seed,
    )


def top_figures(
    scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> dict[str, float]:
    """Top-1 and top-5, fractions."""
    return {f"top{k}": top_k_accuracy(scores, labels, k) for k in (1, 5)}


PROTOCOLS: dict[str, Callable[[Bench], Row]] = {
    "knn": knn,
    "linear_cached": linear_cached,
}
