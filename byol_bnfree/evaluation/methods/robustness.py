"""Accuracy on corrupted test images, to compare norms off distribution."""

import numpy as np
from jax.sharding import Mesh

from byol_bnfree.data.sources import Source
from byol_bnfree.encoder import Encoder
from byol_bnfree.evaluation.bench import Bench
from byol_bnfree.evaluation.features import encoder_features
from byol_bnfree.evaluation.images.corrupt import CORRUPTIONS, LEVELS, Corrupted
from byol_bnfree.evaluation.kept.store import Row
from byol_bnfree.evaluation.methods.logistic import STRENGTHS, Classifier
from byol_bnfree.evaluation.methods.metrics import top_k_accuracy
from byol_bnfree.evaluation.outcome import Outcome


def robustness(bench: Bench) -> list[Row]:
    """Measure the classifier of `linear_cached` on corrupted images; a row per kind."""
    return [_with(bench, kind) for kind in CORRUPTIONS]


def _with(bench: Bench, kind: str) -> Row:
    config = bench.config

    def top1(level: int) -> float:
        """Return the accuracy at one level of the corruption."""
        figure = corrupted_accuracy(
            bench.encoder,
            bench.linear_fit.classifier,
            bench.test,
            (kind, level),
            seed=config.seed,
            mesh=bench.mesh,
            batch_size=config.batch_size,
        )
        bench.say(f"{kind}, level {level} of {LEVELS}: top1 {100 * figure:.2f} %")
        return figure

    def measure() -> Outcome:
        levels = {f"level{level}": top1(level) for level in range(1, LEVELS + 1)}
        mean = float(np.mean(list(levels.values())))
        return Outcome({"top1": mean} | levels, {"strength": bench.linear_fit.strength})

    settings = {"corruption": kind, "strengths": len(STRENGTHS)}
    return bench.measure("robustness", settings, measure)


def corrupted_accuracy(
    encoder: Encoder,
    classifier: Classifier,
    test: Source,
    corruption: tuple[str, int],
    *,
    seed: int = 0,
    mesh: Mesh | None = None,
    batch_size: int = 512,
) -> float:
    """Return the top-1 accuracy on corrupted images, in [0, 1].

    Args:
      encoder: the encoder.
      classifier: fitted on features of clean images; `fit_logistic` returns one.
      test: the clean test images.
      corruption: noise, blur, contrast or jpeg, and its level, 1 to 5; see `corrupt`.
      seed: draws the noise.
      mesh: devices that share a batch; None takes all.
      batch_size: images per step.
    """
    source = Corrupted(test, *corruption, seed)
    features = encoder_features(encoder, source, mesh, batch_size=batch_size)
    return top_k_accuracy(classifier.scores(features), test.labels())
