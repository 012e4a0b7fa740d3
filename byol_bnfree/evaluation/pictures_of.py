"""All pictures of a data set, each once, with name, class and representation."""

import dataclasses
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.prepared import data_root, find_set
from byol_bnfree.data.sources import Source, find_data, same_set
from byol_bnfree.encoder import Encoder
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.features import encoder_features
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


def asked_for(
    run: TrainConfig,
    dataset: str | None,
    data_dir: str | None,
    unlabelled: bool,
    on_bad_image: Literal["stop", "skip"] | None,
) -> TrainConfig:
    """Return the settings that read a data set as a run would. None: the run's own.

    Raises:
      InputError: if another prepared set is not on disk.
    """
    other = dataset is not None and not same_set(dataset, run.dataset)
    # The run's own data set is read as the run read it.
    unlabelled = unlabelled or (run.data.unlabelled and not other)
    data = dataclasses.replace(run.data, unlabelled=unlabelled)
    if other:
        data = dataclasses.replace(data, train_split="train", test_split="test")
    config = dataclasses.replace(
        run,
        dataset=dataset or run.dataset,
        data_dir=data_dir or run.data_dir,
        on_bad_image=on_bad_image or run.on_bad_image,
        data=data,
        # A data set without a test split can be read too.
        evaluation=dataclasses.replace(run.evaluation, skip=True, knn_every_epochs=0),
        run=dataclasses.replace(run.run, keep_best=False),
    )
    return _with_second_split(config) if other else config


def _with_second_split(config: TrainConfig) -> TrainConfig:
    """Take the split `validation` of a prepared set without `test`, as food101 is."""
    if config.dataset == "shapes" or config.dataset.startswith("folder:"):
        return config
    splits = find_set(config.dataset, data_root(config.data_dir)).splits
    if "test" in splits or "validation" not in splits:
        return config
    data = dataclasses.replace(config.data, test_split="validation")
    return dataclasses.replace(config, data=data)


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
