"""`python -m byol_bnfree.predict` predicts classes with a saved classifier."""

import contextlib
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.errors import InputError, why_not_written
from byol_bnfree.files import replacing_text
from byol_bnfree.flags import cli


@dataclass(frozen=True)
class PredictConfig:
    """Write the predicted class of every picture of a data set."""

    classifier: str
    """A file in RUN/evaluation/classifiers, written by `evaluate --save`."""
    dataset: str | None = None
    """shapes, a tensorflow-datasets name, or folder:PATH. None: the run's."""
    out: str = "predictions.csv"
    """File to write: picture, class, probability, and the label if there is one."""
    workdir: str | None = None
    """Folder of the run. None: the run that contains the classifier."""
    data_dir: str | None = None
    """Root of the prepared data sets. None: the run's."""
    split: Literal["all", "train", "test"] | None = None
    """Split of the data set. None: the test split for the run's own set, and all
    pictures for another set."""
    unlabelled: Annotated[bool, tyro.conf.arg(name="data.unlabelled")] = False
    """folder: use all pictures at any depth, without classes."""
    on_bad_image: Literal["stop", "skip"] | None = None
    """stop: end at a picture that cannot be decoded. skip: leave it out. None: as the
    run did."""


def predict(config: PredictConfig) -> float | None:
    """Write the predictions. Return the accuracy in [0, 1]; None without labels.

    Raises:
      InputError: if there is no classifier, the data cannot be read, or the file cannot
        be written.
    """
    from byol_bnfree.evaluation.images.splits import check_images
    from byol_bnfree.evaluation.kept.embedding import writable
    from byol_bnfree.evaluation.pictures_of import asked_for, everything
    from byol_bnfree.evaluation.predictor import load_predictor

    # Checked first, because the predictions may take long.
    out = writable(config.out)
    predictor = load_predictor(config.classifier, config.workdir)
    run = predictor.encoder.config
    own = config.dataset in (None, run.dataset)
    split = config.split or ("test" if own else "all")
    run = asked_for(
        run, config.dataset, config.data_dir, config.unlabelled, config.on_bad_image
    )
    with contextlib.closing(everything(run, split, out.parent)) as pictures:
        check_images(predictor.encoder, pictures.sources[0])
        rows = [row for source in pictures.sources for row in _rows(predictor, source)]
    try:
        with replacing_text(out) as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise InputError(
            f"{config.out} is not written: {why_not_written(error)}."
        ) from error
    labelled = [row for row in rows if row["label"]]
    if not labelled:
        return None
    return sum(row["class"] == row["label"] for row in labelled) / len(labelled)


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
    right = predict(config)
    print(Path(config.out))
    if right is not None:
        print(f"{100 * right:.1f} % of the predictions agree with the labels")


def command() -> None:
    """Run `byol-predict` or `python -m byol_bnfree.predict`."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
