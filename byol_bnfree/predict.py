"""`python -m byol_bnfree.predict` predicts classes with a saved classifier."""

import contextlib
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.data.names import some
from byol_bnfree.errors import InputError, why_not_written
from byol_bnfree.files import replacing_text, writable
from byol_bnfree.flags import cli
from byol_bnfree.settings.types import check_types


@dataclass(frozen=True)
class PredictConfig:
    """Write the predicted class of every picture of a data set."""

    classifier: str
    """A file in RUN/evaluation/classifiers, written by `evaluate --save`."""
    dataset: str | None = None
    """shapes, a tensorflow-datasets name, or folder:PATH. None: the set that the
    classifier was fitted on."""
    out: str = "predictions.csv"
    """File to write: picture, class, probability, and the label if there is one."""
    workdir: str | None = None
    """Folder of the run. None: the run that contains the classifier."""
    data_dir: str | None = None
    """Root of the prepared data sets. None: the classifier's for its own set, and the
    run's for another set."""
    split: Literal["all", "train", "test"] | None = None
    """Split of the data set. None: the test split for the set of the classifier or of
    the run, and all pictures for another set."""
    unlabelled: Annotated[bool, tyro.conf.arg(name="data.unlabelled")] = False
    """folder: use all pictures at any depth, without classes."""
    on_bad_image: Literal["stop", "skip"] | None = None
    """stop: end at a picture that cannot be decoded. skip: leave it out. None: as the
    run did."""

    def __post_init__(self):
        check_types(self)


def predict(config: PredictConfig) -> dict[str, float]:
    """Write the predictions. Return the accuracy in [0, 1] of each split with labels.

    Of a set whose classes have other names than the classifier's, none is returned.

    Raises:
      InputError: if there is no classifier, the data cannot be read, or the file cannot
        be written.
    """
    from byol_bnfree.evaluation.images.as_trained import (
        print_changes,
        print_unfinished,
        reads_own,
    )
    from byol_bnfree.evaluation.images.splits import check_images
    from byol_bnfree.evaluation.pictures_of import everything
    from byol_bnfree.evaluation.predictor import load_predictor

    # Checked first, because the predictions may take long.
    out = writable(config.out)
    predictor = load_predictor(config.classifier, config.workdir)
    if predictor.workdir is not None:
        print_unfinished(predictor.workdir, predictor.encoder.step)
    run, split = _asked(config, predictor)
    with contextlib.closing(everything(run, split, out.parent)) as pictures:
        check_images(predictor.encoder, pictures.sources[0])
        if reads_own(predictor.encoder.config, run):
            print_changes(predictor.workdir, pictures.sources)
        comparable = _comparable(predictor.class_names, pictures.sources[0])
        found = {s.split: list(_rows(predictor, s)) for s in pictures.sources}
    rows = [row for of_split in found.values() for row in of_split]
    try:
        with replacing_text(out) as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise InputError(
            f"{config.out} is not written: {why_not_written(error)}."
        ) from error
    labelled = {k: [row for row in v if row["label"]] for k, v in found.items()}
    return {k: _accuracy(v) for k, v in labelled.items() if v and comparable}


def _asked(config: PredictConfig, predictor: Any) -> tuple[Any, Any]:
    """Return the settings that read the pictures, and the split to predict."""
    from byol_bnfree.data.sources import same_set
    from byol_bnfree.evaluation.pictures_of import asked_for

    run, fitted_on = predictor.encoder.config, predictor.data
    dataset = config.dataset or fitted_on.get("dataset") or run.dataset
    fitted = same_set(dataset, fitted_on.get("dataset") or run.dataset)
    split = "test" if fitted or same_set(dataset, run.dataset) else "all"
    data_dir = config.data_dir or (fitted_on.get("data_dir") if fitted else None)
    # The splits that it was fitted on may have other names than those of the run.
    names = ("train_split", "test_split") if fitted else ()
    asked = asked_for(
        run,
        dataset=dataset,
        data_dir=data_dir,
        unlabelled=config.unlabelled,
        on_bad_image=config.on_bad_image,
        **{name: fitted_on.get(name) for name in names},
    )
    return asked, config.split or split


def _comparable(classes: Sequence[str], source: Any) -> bool:
    """Return True if the labels of pictures are classes that a classifier knows."""
    if not source.num_classes:
        return False
    if strange := [name for name in source.class_names if name not in classes]:
        print(
            f"note: {source.name} has classes that the classifier does not know "
            f"({some(strange)}); so its labels are not compared with the predictions"
        )
    return not strange


def _accuracy(rows: Sequence[Mapping[str, Any]]) -> float:
    return sum(row["class"] == row["label"] for row in rows) / len(rows)


def _rows(predictor: Any, source: Any) -> Iterator[dict[str, Any]]:
    """Yield one row per picture, with its file name, or its number without a file."""
    import numpy as np

    probabilities = predictor.on(source)
    numbers = np.arange(len(source))
    files = getattr(source, "file_names", lambda rows: [str(row) for row in rows])
    labels = source.labels() if source.num_classes else np.full(len(source), -1)
    for name, chances, label in zip(files(numbers), probabilities, labels, strict=True):
        found = [int(chances.argmax())]
        if predictor.several:
            found = list(np.flatnonzero(chances > 0.5))
        yield {
            "picture": name,
            "class": " ".join(predictor.class_names[k] for k in found),
            "probability": " ".join(f"{chances[k]:.4f}" for k in found),
            "label": source.class_names[label] if label >= 0 else "",
        }


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the flags, predict, and print. See `--help`."""
    config = cli(
        PredictConfig,
        args=argv,
        prog="python -m byol_bnfree.predict",
        description="Write the class of every picture of a data set.",
    )
    accuracies = predict(config)
    print(Path(config.out))
    for split, right in accuracies.items():
        print(f"{split}: {100 * right:.1f} % of the predictions agree with the labels")


def command() -> None:
    """Run `byol-predict` or `python -m byol_bnfree.predict`."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
