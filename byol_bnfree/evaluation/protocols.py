"""Runs each protocol on a bench and stores its results.

P1 is the BYOL paper (arXiv 2006.07733).
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from byol_bnfree.encoder import Encoder
from byol_bnfree.evaluation.bench import SUPERVISED, Bench
from byol_bnfree.evaluation.dense.cleaned import Cleaned
from byol_bnfree.evaluation.dense.drawing import save_dense
from byol_bnfree.evaluation.dense.evaluation import dense_evaluation
from byol_bnfree.evaluation.dense.tasks import TASKS
from byol_bnfree.evaluation.kept.fitted import classifier_path, read_fitted
from byol_bnfree.evaluation.kept.store import Row
from byol_bnfree.evaluation.methods.knn import knn_predict
from byol_bnfree.evaluation.methods.linear import linear_evaluation
from byol_bnfree.evaluation.methods.logistic import STRENGTHS
from byol_bnfree.evaluation.methods.robustness import robustness
from byol_bnfree.evaluation.methods.transfer import transfer
from byol_bnfree.evaluation.methods.tuning import (
    finetune_evaluation,
    labelled_subset,
    semi_supervised_evaluation,
    supervised_evaluation,
)
from byol_bnfree.evaluation.outcome import Outcome, top_figures
from byol_bnfree.evaluation.settings import described
from byol_bnfree.files import file_name, write_json


def knn(bench: Bench) -> list[Row]:
    """Measure top-1 of the weighted kNN classifier on stored features."""
    settings = dataclasses.asdict(bench.config.knn)

    def measure() -> Outcome:
        """Classify all test images; top-1 in [0, 1]."""
        predictions = knn_predict(
            bench.train_features,
            bench.train_labels,
            bench.test_features,
            bench.num_classes,
            mesh=bench.mesh,
            **settings,
        )
        return Outcome({"top1": float(np.mean(predictions == bench.test_labels))}, {})

    return [bench.measure("knn", settings, measure)]


def linear_cached(bench: Bench) -> list[Row]:
    """Measure logistic regression on stored features (P1 appendix D.2)."""

    def measure() -> Outcome:
        """Score the test images."""
        fit = bench.linear_fit
        scores = fit.classifier.scores(bench.test_features)
        chosen = {"strength": fit.strength, "validation_top1": fit.validation}
        figures = top_figures(scores, bench.test_labels)
        return Outcome(figures, chosen, fitted=fit.classifier.fitted())

    return [bench.measure("linear_cached", {"strengths": len(STRENGTHS)}, measure)]


def linear(bench: Bench) -> list[Row]:
    """Measure linear evaluation as in the papers (P1 appendix C.1)."""
    with_features = functools.partial(linear_evaluation, features=bench.features)
    return [_with_all_labels(bench, "linear", with_features)]


def semi_supervised(bench: Bench) -> list[Row]:
    """Measure fine-tuning with few labels (P1 appendix C.1); one row per share."""
    return [_with_share(bench, share) for share in bench.config.semi.shares]


def _with_share(bench: Bench, share: float) -> Row:
    settings = described(bench.config.semi) | {"share": share}
    del settings["shares"]

    def measure() -> Outcome:
        """List the labelled images, fine-tune, and score the test images."""
        _list_labels(bench, share)
        return semi_supervised_evaluation(
            bench.encoder,
            bench.train,
            bench.test,
            share,
            settings=bench.config.semi,
            seed=bench.config.seed,
            mesh=bench.mesh,
            unfinished=bench.unfinished("semi_supervised", settings),
        )

    return bench.measure("semi_supervised", settings, measure)


def _list_labels(bench: Bench, share: float) -> None:
    """Write the list of images that keep their labels, so others can compare."""
    seed, train = bench.config.seed, bench.train
    kept = labelled_subset(train, share, seed)
    name = file_name(f"labels-{train.name}-{100 * share:g}pct-seed{seed}")
    of = {"dataset": train.name, "split": train.split, "images": len(train)}
    write_json(
        bench.folder / f"{name}.json",
        of | {"indices": kept, "labels": train.labels(kept)},
    )


def finetune(bench: Bench) -> list[Row]:
    """Measure the fine-tuning of the transfer protocol (P1 appendix D.3)."""
    return [_with_all_labels(bench, "finetune", finetune_evaluation)]


def supervised(bench: Bench) -> list[Row]:
    """Measure training with all labels; `bench` must have the untrained network.

    The network is kept if a dense task takes it as its ceiling.
    """
    keep = not {*TASKS}.isdisjoint(bench.config.protocol)
    return [_with_all_labels(bench, SUPERVISED, supervised_evaluation, keep)]


def trained_with_labels(bench: Bench) -> Encoder:
    """Return the encoder that `supervised` has trained on this bench, and kept."""
    identity = bench.identity(SUPERVISED, described(bench.config.supervised))
    fitted, _ = read_fitted(classifier_path(bench.folder, identity))
    variables = jax.tree.map(jnp.asarray, fitted.variables)
    return dataclasses.replace(bench.encoder, variables=variables)


def _with_all_labels(
    bench: Bench, name: str, evaluation: Callable, keep: bool = False
) -> Row:
    settings = getattr(bench.config, name)
    row = described(settings)

    def measure() -> Outcome:
        """Fit and test; called if the result is not stored."""
        return evaluation(
            bench.encoder,
            bench.train,
            bench.test,
            settings,
            seed=bench.config.seed,
            mesh=bench.mesh,
            unfinished=bench.unfinished(name, row),
        )

    return bench.measure(name, row, measure, keep)


def dense_task(name: str) -> Callable[[Bench], list[Row]]:
    """Return the protocol of a dense task; `bench` must have its views of the data."""

    def protocol(bench: Bench) -> list[Row]:
        """Fit the task on the encoder, test it, and draw its pictures."""
        settings = getattr(bench.config, name)
        # The size of the window may come from the data, so the settings do not tell it.
        row = described(settings) | {"window": list(bench.train.windows.size)}

        def measure() -> Outcome:
            """Fit and test; called if the result is not stored."""
            found = dense_evaluation(
                TASKS[name],
                bench.encoder,
                bench.train,
                bench.test,
                settings,
                seed=bench.config.seed,
                mesh=bench.mesh,
                unfinished=bench.unfinished(name, row),
                say=bench.say,
            )
            for path in save_dense(TASKS[name], found, bench.test, bench.drawn()):
                bench.say(str(path))
            for source in (bench.train.source, bench.test.source):
                if isinstance(source, Cleaned) and source.sentence():
                    bench.say(source.sentence())
            return found.outcome

        return [bench.measure(name, row, measure)]

    return protocol


PROTOCOLS: dict[str, Callable[[Bench], list[Row]]] = {
    "knn": knn,
    "linear": linear,
    "linear_cached": linear_cached,
    "semi_supervised": semi_supervised,
    "finetune": finetune,
    "supervised": supervised,
    "robustness": robustness,
    "transfer": transfer,
    **{name: dense_task(name) for name in TASKS},
}
