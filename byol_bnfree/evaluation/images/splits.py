"""Opens the splits of an evaluation, and checks images and labels."""

import dataclasses
from pathlib import Path

import numpy as np

from byol_bnfree.config import TrainConfig, height_and_width
from byol_bnfree.data.check import odd_pictures
from byol_bnfree.data.sources import Source, open_source, same_set
from byol_bnfree.encoder import Encoder
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.images.as_trained import print_changes, reads_own
from byol_bnfree.evaluation.images.asked import reading
from byol_bnfree.evaluation.images.left_out import usable_only
from byol_bnfree.evaluation.images.multilabel import open_many_labels
from byol_bnfree.evaluation.images.subset import limited
from byol_bnfree.files import expanded
from byol_bnfree.interop.weights import is_run


def open_splits(
    run: TrainConfig,
    config: EvaluateConfig,
    *,
    several: bool = False,
    crop_share: float | None = None,
) -> tuple[Source, Source]:
    """Open both splits at the encoder's image size and channels.

    Under on_bad_image="skip" pictures that cannot be decoded are left out. With
    `several` the images have several labels, and the sources are
    `multilabel.ManyLabels`. `crop_share` is that of `open_source`.

    Raises:
      InputError: if the set cannot be read, or its labels cannot be used.
    """
    other = config.dataset is not None and not same_set(config.dataset, run.dataset)
    asked = reading(
        run,
        config.dataset,
        config.data_dir,
        unlabelled=config.unlabelled,
        on_bad_image=config.on_bad_image,
        train_split=config.train_split,
        test_split=config.test_split,
    )
    # A run without evaluation may have no test split, but this one needs it.
    needed = dataclasses.replace(asked.evaluation, skip=False)
    asked = dataclasses.replace(asked, seed=config.seed, evaluation=needed)

    def open_split(split: str) -> Source:
        if several:
            return open_many_labels(asked, split, crop_share)
        # The run has said what is odd in its own set.
        say = print if other and split == "train" else None
        return open_source(asked, split, say, crop_share)

    folder = Path(config.workdir) / "evaluation"
    skip = asked.on_bad_image == "skip"
    train, test = (
        usable_only(limited(open_split(split), limit, config.seed), folder, skip=skip)
        for split, limit in (("train", config.max_train), ("test", config.max_test))
    )
    if reads_own(run, asked):
        of_run = Path(config.workdir)
        if config.weights is not None and not is_run(of_run):
            of_run = expanded(config.weights)
        print_changes(of_run, [train, test])
    if other and not several:
        print_odd(train)
    if not several and not (config.plot and train.num_classes is None):
        check_labels(train, test, limit=config.max_train)
    return train, test


def print_odd(source: Source) -> None:
    """Print notes about pictures that were perhaps not read as intended."""
    for note in odd_pictures(source):
        print(f"note: {note}", flush=True)


def check_labels(train: Source, test: Source, limit: int | None = None) -> None:
    """Raise `InputError` without labels, or if only test images have some class.

    With `limit`, that of --max-train, `train` may lack classes that its whole split
    has. Their test images then count as wrong, as at the end of a run; a line says so.
    The labels of the whole split are not read: that may take a pass over its files.
    """
    for source in (train, test):
        if source.num_classes is None or (source.labels() < 0).any():
            raise InputError(
                f"the {source.split} split of {source.name} has images without label; "
                f"evaluation needs a label for each image. Give such a set, or draw "
                f"pictures with --plot."
            )
    if train.num_classes == 1:
        raise InputError(
            f"{train.name} has one class, {train.class_names[0]}, so every classifier "
            f"is right; give a data set with at least two classes."
        )
    known, asked = np.unique(train.labels()), np.unique(test.labels())
    missing = np.setdiff1d(asked, known)
    if test.class_names != train.class_names:
        missing_names = sorted(set(test.class_names) - set(train.class_names))
        raise InputError(
            f"the classes of {test.name} {test.split} differ from those of "
            f"{train.split} ({', '.join(missing_names) or 'another order'}); make them "
            f"the same."
        )
    # A classifier never names a class that it has not seen.
    if len(missing) and limit is not None:
        if len(known) < 2:
            raise InputError(
                f"--max-train {limit} leaves images of one class of {train.name} "
                f"{train.split}, {train.class_names[known[0]]}; raise it."
            )
        print(
            f"note: {len(missing)} of {len(asked)} classes in the {test.split} split "
            f"of {test.name} have no image among those that --max-train {limit} "
            f"leaves, so their images count as wrong",
            flush=True,
        )
    elif len(missing):
        raise InputError(
            f"class {test.class_names[missing[0]]!r} in the {test.split} split of "
            f"{test.name} has no image in {train.split}; add some or leave it out."
        )


def check_images(encoder: Encoder, source: Source) -> None:
    """Raise `InputError` unless the encoder was made for images of this shape."""
    data = encoder.config.data
    wanted = (*height_and_width(data.image_size), data.channels)
    if source.image_shape != wanted:
        shapes = ["x".join(map(str, shape)) for shape in (source.image_shape, wanted)]
        raise InputError(
            f"images of {source.name} are {shapes[0]}, but the encoder was made for "
            f"{shapes[1]}; convert them, or train an encoder for them."
        )
