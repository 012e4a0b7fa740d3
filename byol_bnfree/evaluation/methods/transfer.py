"""Transfer to the twelve data sets of BYOL's Tables 3 and 10.

P1 is the BYOL paper (arXiv 2006.07733). Names and splits are those of
tensorflow-datasets. P1 chooses hyper-parameters on its own validation splits. We hold
out a random tenth of the training images, to which we add the validation split if the
set has one. The classifier is then fitted again on all of them. Images are cut to
squares; P1 only says that the shorter side is resized.
"""

import dataclasses
import re
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from byol_bnfree.data.prepared import find_set
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.bench import Bench
from byol_bnfree.evaluation.images.splits import check_images, open_splits
from byol_bnfree.evaluation.kept.store import Row
from byol_bnfree.evaluation.methods.logistic import STRENGTHS, fit_logistic
from byol_bnfree.evaluation.methods.metrics import METRICS, Metric
from byol_bnfree.evaluation.methods.tuning import finetune_evaluation
from byol_bnfree.evaluation.outcome import Outcome
from byol_bnfree.evaluation.settings import described


class Task(NamedTuple):
    """A data set, its splits and its metric. `problem` says why it cannot be used."""

    title: str
    name: str
    train: str
    test: str
    metric: Metric
    problem: str | None = None


MISSING = (
    "tensorflow-datasets does not have it; evaluate its images separately, "
    "with --dataset=folder:PATH --protocol linear_cached"
)
TASKS = (
    Task("Food-101", "food101", "train", "validation", "top1"),
    Task("CIFAR-10", "cifar10", "train", "test", "top1"),
    Task("CIFAR-100", "cifar100", "train", "test", "top1"),
    Task("Birdsnap", "birdsnap", "train", "test", "top1", MISSING),
    Task("SUN397", "sun397/standard-part1-120k", "train", "test", "top1"),
    Task("Cars", "cars196", "train", "test", "top1"),
    Task("Aircraft", "aircraft", "train", "test", "mean_per_class", MISSING),
    Task("VOC 2007", "voc/2007", "train+validation", "test", "map11"),
    Task("DTD", "dtd", "train+validation", "test", "top1"),
    Task("Pets", "oxford_iiit_pet", "train", "test", "mean_per_class"),
    Task("Caltech-101", "caltech101", "train", "test", "mean_per_class"),
    Task("Flowers", "oxford_flowers102", "train+validation", "test", "mean_per_class"),
)


def transfer(bench: Bench) -> list[Row]:
    """Measure each data set with its own metric.

    If no sets were asked for by name, those that cannot be read are left out, and a
    line names them.

    Raises:
      InputError: for a name that is not among the twelve, and if a set that was asked
        for by name cannot be read.
    """
    rows, missing = [], {}
    names = bench.config.transfer.datasets
    for task in chosen_tasks(names):
        try:
            there = _on_task(bench, task)
        except InputError as error:
            if names:
                raise
            missing.setdefault(_reason(task, error), []).append(task.title)
            continue
        with closing(there.train), closing(there.test):
            rows.append(measured_by(there, task.metric))
    if bench.network != "random":  # otherwise another network's bench has said it
        for reason, titles in missing.items():
            bench.say(f"transfer: left out: {', '.join(titles)}: {reason}")
    return rows


def _reason(task: Task, error: InputError) -> str:
    """Replace the set's name in the error, so sets with one reason share a line."""
    return re.sub(rf"\b{re.escape(task.name)}(?![\w/])", "NAME", str(error))


def chosen_tasks(names: tuple[str, ...]) -> list[Task]:
    """Return the tasks with these names, or all twelve; `InputError` for others."""
    known = [task.name for task in TASKS]
    for name in names:
        if name not in known:
            raise InputError(
                f"--transfer.datasets has {name!r}; choose from {', '.join(known)}."
            )
    return [task for task in TASKS if not names or task.name in names]


def check_sets(names: tuple[str, ...], root: Path) -> None:
    """Raise `InputError` if a set that was asked for by name is not prepared.

    Without names one of the twelve is enough.
    """
    missing = {}
    for task in chosen_tasks(names):
        if task.problem is not None:
            missing[task.name] = f"{task.problem}."
            continue
        try:
            find_set(task.name, root)
        except InputError as error:
            missing[task.name] = str(error)
    if names and missing:
        name, reason = next(iter(missing.items()))
        raise InputError(f"--transfer.datasets {name} cannot be used: {reason}")
    if len(missing) == len(TASKS):
        raise InputError(
            f"none of the twelve sets of --protocol transfer is in {root}; prepare "
            f"one, such as cifar10, or name another folder with --data-dir."
        )


def _on_task(bench: Bench, task: Task) -> Bench:
    """Return the bench with the images of a task; `InputError` if it cannot be read."""
    if task.problem is not None:
        raise InputError(task.problem)
    config = dataclasses.replace(
        bench.config, dataset=task.name, train_split=task.train, test_split=task.test
    )
    several = task.metric == "map11"
    # P1's linear transfer resizes the shorter side to the input (D.2). Fine-tuning
    # cuts the centre out of a larger picture (D.3), as all other evaluation.
    share = 1.0 if config.transfer.method == "linear_cached" else None
    train, test = open_splits(
        bench.encoder.config, config, several=several, crop_share=share
    )
    check_images(bench.encoder, train)
    return dataclasses.replace(bench, config=config, train=train, test=test)


def measured_by(bench: Bench, metric: Metric) -> Row:
    """Measure the metric on a bench's data set with the configured method."""
    config, method = bench.config, bench.config.transfer.method
    settings = {"method": method, "metric": metric}
    if method == "finetune":
        settings |= described(config.finetune)
    else:
        settings |= {"strengths": len(STRENGTHS)}

    def measure() -> Outcome:
        evaluate = _finetuned if method == "finetune" else _linear
        return evaluate(bench, metric, settings)

    return bench.measure("transfer", settings, measure)


def _linear(bench: Bench, metric: Metric, settings: Row) -> Outcome:
    """Score logistic regression on stored features (P1 appendix D.2)."""
    del settings
    fit = fit_logistic(
        bench.train_features,
        bench.train_labels,
        bench.num_classes,
        seed=bench.config.seed,
        score=METRICS[metric],
    )
    scores = fit.classifier.scores(bench.test_features)
    figures = {metric: METRICS[metric](scores, bench.test_labels)}
    chosen = {"strength": fit.strength, f"validation_{metric}": fit.validation}
    return Outcome(figures, chosen, fitted=fit.classifier.fitted())


def _finetuned(bench: Bench, metric: Metric, settings: Row) -> Outcome:
    """Score the fine-tuned network (P1 appendix D.3)."""
    return finetune_evaluation(
        bench.encoder,
        bench.train,
        bench.test,
        bench.config.finetune,
        seed=bench.config.seed,
        mesh=bench.mesh,
        unfinished=bench.unfinished("transfer", settings),
        metric=metric,
        figures=lambda scores, labels: {metric: METRICS[metric](scores, labels)},
    )
