"""Opens the splits of a dense task: the data, the windows, and what must be there."""

import dataclasses
import math
import os
from pathlib import Path

import numpy as np

from byol_bnfree.config import AugmentConfig, TrainConfig
from byol_bnfree.data.dense.example import DenseSource
from byol_bnfree.data.dense.folder import DenseFolder
from byol_bnfree.data.dense.folder_layouts import has_lists
from byol_bnfree.data.dense.prepared import DensePrepared
from byol_bnfree.data.dense.shapes import Scenes
from byol_bnfree.data.dense.view import DenseSubset, DenseView, Windows
from byol_bnfree.data.eight_bits import conversion
from byol_bnfree.data.names import printable, some
from byol_bnfree.data.tfds_records import check_disjoint
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.config import EvaluateConfig, check_settings
from byol_bnfree.evaluation.dense.cleaned import Cleaned
from byol_bnfree.evaluation.dense.settings import DenseSettings
from byol_bnfree.evaluation.dense.task import Task
from byol_bnfree.evaluation.dense.usable import CHECKED, check_splits
from byol_bnfree.evaluation.features import evaluation_indices

PAPER_SIZES = {  # P1 D.4 and D.6; all of a VOC picture
    **{"segmentation": (513, 513), "depth": (228, 304)},
    **{"detection": (512, 512)},
}
COCO_SIZE = (640, 640)  # all of a picture; the papers have no COCO
SCENE = 64  # side of a generated scene
MOST_CUT_OFF = 0.8  # share of a picture; NYUv2's window in the paper shows 0.9


def open_dense(
    task: Task, settings: DenseSettings, run: TrainConfig, config: EvaluateConfig
) -> tuple[DenseView, DenseView]:
    """Open both splits of the data set that `config` names, for one task.

    The data set is that of the run if `config` names none. Some pictures are read, so
    that unusable ones are found before the training.

    Raises:
      InputError: if the set cannot be read, does not know the task's target, does not
        have the splits that `config` names, or if these share pictures.
    """
    name = config.dataset or run.dataset
    both = {split: _open(name, split, run, config) for split in ("train", "test")}
    _check_disjoint(both)
    limits = {"train": config.max_train, "test": config.max_test}
    train, test = (
        _limited(source, limits[split], config.seed) for split, source in both.items()
    )
    settings = dataclasses.replace(
        settings,
        size=settings.size or _usual_size(task, name),
        resize=settings.resize or _usual_scale(name),
    )
    return dense_views(task, train, test, settings, run.augment, seed=config.seed)


def dense_views(
    task: Task,
    train: DenseSource,
    test: DenseSource,
    settings: DenseSettings,
    augment: AugmentConfig,
    *,
    seed: int = 0,
) -> tuple[DenseView, DenseView]:
    """Return the views of two splits for `dense_evaluation`.

    Masks are checked. Depths and boxes are cleaned. Some pictures are read, so that
    unusable ones are found before the training.

    Args:
      task: one of `tasks.TASKS`.
      train: pictures to train on.
      test: pictures to report on.
      settings: of the task. Their window, scales and crop make the views; without a
        size the window is the paper's.
      augment: of the encoder, `encoder.config.augment`. Its mean fills windows that
        are larger than their picture.
      seed: draws the windows.

    Raises:
      InputError: if a setting is impossible, if a split is no `DenseSource`, is empty
        or does not know the task's target, or if the splits have different classes.
    """
    check_settings(f"{task.name}.", settings)
    check_splits(task, train, test)
    windows = Windows(
        settings.size or PAPER_SIZES[task.name],
        settings.scales,
        settings.resize or 1.0,
        central=getattr(settings, "crop", "random") == "central",
        depth_by_scale=getattr(settings, "by_scale", False),
        # Outside its picture a window is about 0 after normalization.
        fill=round(255 * float(np.mean(augment.mean))),
    )
    train_view, test_view = (
        DenseView(Cleaned(source, task.target), windows, seed)
        for source in (train, test)
    )
    return train_view, test_view


def whole_view(view: DenseView) -> DenseView:
    """Return the view of all pictures that the pictures of `view` were chosen from."""
    return dataclasses.replace(view, source=_whole_source(view))


def unused_files(views: tuple[DenseView, ...]) -> list[str]:
    """Return a sentence for each folder in which files are not used."""
    folders = [_whole_source(view) for view in views]
    found = [f for f in folders if isinstance(f, DenseFolder) and f.unused.counts]
    # Without train/ and test/, both splits come from the same folders.
    return list(dict.fromkeys(f.unused.sentence(str(f.root)) for f in found))


def cut_off(task: Task, test: DenseView) -> list[str]:
    """Return a sentence if windows leave out much of the first test pictures."""
    window, scale = test.windows.size, test.windows.test_scale
    shares = []
    for row in range(min(CHECKED, len(test))):
        sides = test.source.example(row)["image"].shape[:2]
        shares.append(
            math.prod(
                min(1.0, w / (scale * s)) for w, s in zip(window, sides, strict=True)
            )
        )
    if (seen := float(np.mean(shares))) > MOST_CUT_OFF:
        return []
    return [
        f"the window of {window[0]} x {window[1]} pixels shows {seen:.0%} of the first "
        f"test pictures of {test.name}, and nothing outside of it is measured; give a "
        f"larger --{task.name}.size, or smaller pictures"
    ]


def _whole_source(view: DenseView) -> DenseSource:
    source = view.source
    while isinstance(source, Cleaned | DenseSubset):
        source = source.source
    return source


def _usual_scale(name: str) -> float:
    return 0.5 if name.startswith("nyu_depth_v2") else 1.0  # P1 appendix D.6


def _usual_size(task: Task, name: str) -> tuple[int, int]:
    if name == "shapes":
        return SCENE, SCENE
    if name.startswith("coco") and task.name == "detection":
        return COCO_SIZE
    return PAPER_SIZES[task.name]


def _open(
    name: str, split: str, run: TrainConfig, config: EvaluateConfig
) -> DenseSource:
    channels = run.data.channels or 3
    part, how = _part(name, split, run, config), conversion(run.data)
    if name == "shapes":
        if channels not in (1, 3):
            raise InputError(
                f"the generated scenes are gray or coloured, but the encoder was made "
                f"for {channels} channels; give --dataset=folder:PATH."
            )
        total = run.data.shapes_train if split == "train" else run.data.shapes_test
        return Scenes(split, total, SCENE, channels)
    if name.startswith("folder:"):
        path = os.path.expanduser(name.removeprefix("folder:"))
        return DenseFolder.open(path, split, channels, how, part)
    data_dir = config.data_dir or run.data_dir
    return DensePrepared.open(name, split, part, data_dir, channels, how)


def _part(
    name: str, split: str, run: TrainConfig, config: EvaluateConfig
) -> str | None:
    """Return the name of a split in the words of the set; None means the usual one."""
    of_run = {"train": run.data.train_split, "test": run.data.test_split}
    given = {"train": config.train_split, "test": config.test_split}
    folder = Path(os.path.expanduser(name.removeprefix("folder:")))
    if name.startswith("folder:") and has_lists(folder):
        return given[split]  # the name of one of VOC's lists
    if name == "shapes" or name.startswith("folder:"):
        if given[split] not in (None, split):
            raise InputError(
                f"--{split}-split {given[split]!r} does not apply to {name}, whose "
                f"splits for dense tasks are train and test; leave it out."
            )
        return None
    # Many sets do not call their splits train and test. A run with these defaults has
    # not chosen them.
    chosen = name == run.dataset and of_run[split] != split
    return given[split] or (of_run[split] if chosen else None)


def _check_disjoint(both: dict[str, DenseSource]) -> None:
    """Raise `InputError` if the splits of a set share pictures."""
    folders = [source for source in both.values() if isinstance(source, DenseFolder)]
    if shared := set.intersection(*({*f.images} for f in folders)) if folders else ():
        raise InputError(
            f"the training split and the test split of {folders[0].location} share "
            f"{some([printable(file.name) for file in sorted(shared)])}; choose splits "
            f"that do not."
        )
    prepared = {k: v for k, v in both.items() if isinstance(v, DensePrepared)}
    if not prepared:
        return
    check_disjoint(
        {split: source.part for split, source in prepared.items()},
        {
            split: [(s.filename, s.skip, s.skip + s.take) for s in source.spans]
            for split, source in prepared.items()
        },
    )


def _limited(source: DenseSource, limit: int | None, seed: int) -> DenseSource:
    if limit is None or len(source) <= limit:
        return source
    return DenseSubset(source, evaluation_indices(len(source), limit, seed))
