"""All pictures of a data set, each once, with name, class and representation."""

import dataclasses
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.sources import Source, find_data
from byol_bnfree.encoder import Encoder
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.features import encoder_features
from byol_bnfree.evaluation.images.asked import reading
from byol_bnfree.evaluation.images.left_out import usable_only
from byol_bnfree.evaluation.images.splits import print_odd
from byol_bnfree.evaluation.images.subset import Subset
from byol_bnfree.evaluation.kept.embedding import Embedding


class Pictures(NamedTuple):
    """The splits of a data set, without pictures that occur twice."""

    sources: list[Source]

    def close(self) -> None:
        """Close the sources."""
        for source in self.sources:
            source.close()


def asked_for(run: TrainConfig, **asked: Any) -> TrainConfig:
    """Return the settings that read all pictures of a data set, as `reading` does.

    A data set without a test split can be read too.
    """
    config = reading(run, **asked)
    return dataclasses.replace(
        config,
        evaluation=dataclasses.replace(run.evaluation, skip=True, knn_every_epochs=0),
        run=dataclasses.replace(run.run, keep_best=False),
    )


def everything(
    config: TrainConfig, split: Literal["all", "train", "test"], folder: Path
) -> Pictures:
    """Return the pictures that can be decoded. `folder` stores the list of the others.

    Raises:
      InputError: if the set has no pictures, or not this split.
    """
    data_set = find_data(config)
    for note in data_set.notes:
        print(f"note: {note}")
    names = ("train", "test") if split == "all" else (split,)
    opened = [source for name in names if (source := data_set.open(name)) is not None]
    if not opened:
        raise InputError(
            f"{config.dataset} has no {split} split with pictures; give --split=all."
        )
    sources: list[Source] = []
    skip = config.on_bad_image == "skip"
    for source in (usable_only(source, folder, skip=skip) for source in opened):
        # Pictures without a class may occur in both splits.
        known = {name for before in sources for name in files_of(before)}
        new = np.array([name not in known for name in files_of(source)], bool)
        if new.any():
            sources.append(source if new.all() else Subset(source, np.flatnonzero(new)))
            print_odd(sources[-1])
    return Pictures(sources)


def files_of(source: Source) -> list[str]:
    """Return the names of all pictures of a source."""
    return source.file_names(np.arange(len(source)))


def represented(encoder: Encoder, pictures: Pictures, batch_size: int) -> Embedding:
    """Compute the representations of all pictures, in the order of their splits."""
    sources = pictures.sources
    # A batch larger than every split would be padding.
    size = min(batch_size, max(map(len, sources)))
    labels = [
        source.labels() if source.num_classes else np.full(len(source), -1)
        for source in sources
    ]
    return Embedding(
        features=np.concatenate(
            [encoder_features(encoder, source, batch_size=size) for source in sources]
        ),
        files=[name for source in sources for name in files_of(source)],
        splits=[source.split for source in sources for _ in range(len(source))],
        labels=np.concatenate(labels).astype(np.int32),
        class_names=tuple(sources[0].class_names),
    )
