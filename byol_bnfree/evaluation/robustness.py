"""Accuracy on corrupted test images: norm arms compared off distribution."""

import numpy as np
from jax.sharding import Mesh

from byol_bnfree.data.sources import Source
from byol_bnfree.evaluation.bench import Bench
from byol_bnfree.evaluation.corrupt import CORRUPTIONS, LEVELS, Corrupted
from byol_bnfree.evaluation.features import encoder_features
from byol_bnfree.evaluation.logistic import STRENGTHS, Classifier
from byol_bnfree.evaluation.metrics import top_k_accuracy
from byol_bnfree.evaluation.outcome import Outcome
from byol_bnfree.evaluation.store import Row
from byol_bnfree.pretrained import Encoder


def robustness(bench: Bench) -> list[Row]:
    """The classifier of `linear_cached`, fitted on clean images; one row for a kind."""
    return [_with(bench, kind) for kind in CORRUPTIONS]


def _with(bench: Bench, kind: str) -> Row:
    def measure() -> Outcome:
        fit = bench.linear_fit
        figures = corrupted_accuracy(
            bench.encoder,
            fit.classifier,
            bench.test,
            kind,
            seed=bench.config.seed,
            mesh=bench.mesh,
            batch_size=bench.config.batch_size,
        )
        return Outcome(figures, {"strength": fit.strength})

    settings = {"corruption": kind, "strengths": len(STRENGTHS)}
    return bench.measure("robustness", settings, measure)


def corrupted_accuracy(
    encoder: Encoder,
    classifier: Classifier,
    test: Source,
    kind: str,
    *,
    seed: int = 0,
    mesh: Mesh | None = None,
    batch_size: int = 512,
) -> dict[str, float]:
    """Top-1 on corrupted images, fractions: `level1` to `level5`, their mean `top1`.

    Args:
      classifier: of features of clean images, as `fit_logistic` gives it.
      kind: noise, blur, contrast or jpeg, see `corrupt`.
    """
    levels = {}
    for level in range(1, LEVELS + 1):
        source = Corrupted(test, kind, level, seed)
        features = encoder_features(encoder, source, mesh, batch_size=batch_size)
        scores = classifier.scores(features)
        levels[f"level{level}"] = top_k_accuracy(scores, test.labels())
    return {"top1": float(np.mean(list(levels.values())))} | levels
