"""The data that a command asks for: those of the run, or another set read like them."""

import dataclasses
from typing import Literal

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.prepared import data_root, find_set
from byol_bnfree.data.sources import same_set


def reading(
    run: TrainConfig,
    dataset: str | None = None,
    data_dir: str | None = None,
    *,
    unlabelled: bool = False,
    on_bad_image: Literal["stop", "skip"] | None = None,
    train_split: str | None = None,
    test_split: str | None = None,
) -> TrainConfig:
    """Return the settings that read a data set as a run would. None: the run's own.

    The run's splits and its `unlabelled` belong to its own data set. Another set has
    the splits train and test. A prepared one without test has validation instead.

    Raises:
      InputError: if another prepared set is not on disk.
    """
    dataset, data_dir = dataset or run.dataset, data_dir or run.data_dir
    other, data = not same_set(dataset, run.dataset), run.data
    if other:
        second = test_split or _second_split(dataset, data_dir)
        data = dataclasses.replace(
            data, train_split="train", test_split=second, unlabelled=False
        )
    return dataclasses.replace(
        run,
        dataset=dataset,
        data_dir=data_dir,
        on_bad_image=on_bad_image or run.on_bad_image,
        data=dataclasses.replace(
            data,
            unlabelled=unlabelled or data.unlabelled,
            train_split=train_split or data.train_split,
            test_split=test_split or data.test_split,
        ),
    )


def _second_split(dataset: str, data_dir: str | None) -> str:
    """Return `validation` for a prepared set without `test`, as food101 is."""
    if dataset == "shapes" or dataset.startswith("folder:"):
        return "test"
    splits = find_set(dataset, data_root(data_dir)).splits
    return "validation" if "test" not in splits and "validation" in splits else "test"
