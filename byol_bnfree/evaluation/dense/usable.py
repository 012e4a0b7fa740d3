"""What the splits of a dense task must have. All is found before any work starts."""

import numpy as np

from byol_bnfree.data.dense.example import IGNORE, KNOWN, DenseSource, knows
from byol_bnfree.data.dense.folder import DenseFolder
from byol_bnfree.data.dense.view import DenseSubset
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.dense.cleaned import Cleaned
from byol_bnfree.evaluation.dense.task import Task

CHECKED = 16  # pictures that are read before the training begins, or more until one
# has the target
PLACES = {
    "mask": "oxford_iiit_pet, or folder:PATH with images/ and masks/",
    "depth": "nyu_depth_v2, or folder:PATH with images/ and depths/",
    "boxes": "voc/2007 or coco/2017",
}


def check_splits(task: Task, train: DenseSource, test: DenseSource) -> None:
    """Check both splits for a task, and that they have the same classes.

    Raises:
      InputError: if a split is no `DenseSource`, is empty or does not know the task's
        target, or if the splits have different classes, or more than a mask can tell
        apart.
    """
    shown = []
    for source in (train, test):
        _check_source(source)
        shown.append(_classes_shown(task, source))
    _check_learned(*shown, train, test)
    if task.target == "mask" and len(train.class_names) > IGNORE:
        raise InputError(
            f"{train.name} has {len(train.class_names)} classes of masks, but at most "
            f"{IGNORE} are possible, because {IGNORE} marks pixels to ignore; join "
            f"some."
        )
    for of, ours, theirs in (
        ("masks", train.class_names, test.class_names),
        ("boxes", train.box_names, test.box_names),
    ):
        if ours != theirs:
            raise InputError(
                f"the classes of the {of} of {train.name} differ between its splits "
                f"({len(ours)} and {len(theirs)}); make them the same."
            )


def _check_source(source: object) -> None:
    """Raise `InputError` if an object lacks a part of a dense source."""
    parts = (*DenseSource.__annotations__, "__len__", "example", "file_names")
    if missing := [name for name in parts if not hasattr(source, name)]:
        raise InputError(
            f"a {type(source).__name__} is no source of dense examples, because it has "
            f"no {', '.join(missing)}; see byol_bnfree.data.dense.example.DenseSource."
        )


def _check_learned(
    known: set[int] | None,
    asked: set[int] | None,
    train: DenseSource,
    test: DenseSource,
) -> None:
    """Refuse classes of the test masks that no training mask shows.

    A sample of the training pictures may lack some. Then a note says so.
    """
    missing = sorted((asked or set()) - (known or set()))
    if known is None or not missing:
        return
    names = ", ".join(test.class_names[k] for k in missing[:5])
    if isinstance(train, DenseSubset):
        print(
            f"note: {len(missing)} classes of the test masks of {test.name} are in "
            f"none of the training masks that --max-train leaves ({names}), so their "
            f"pixels count as wrong",
            flush=True,
        )
        return
    raise InputError(
        f"no training mask of {train.name} shows the class {names}, but test masks do; "
        f"add such training pictures, or number these pixels {IGNORE} to ignore them."
    )


def _classes_shown(task: Task, source: DenseSource) -> set[int] | None:
    """Return the classes of a folder's masks; of other sources they are not known.

    Raises:
      InputError: if a source lacks the target, or the first pictures do.
    """
    if not len(source):
        raise InputError(
            f"the {source.split} split of {source.name} is empty; add pictures, "
            f"or sort them into train/ and test/."
        )
    if task.target not in source.targets:
        there = ", ".join(sorted(source.targets)) or "nothing"
        raise InputError(
            f"{source.name} has no {task.target} for --protocol {task.name} (it has "
            f"{there}); give --dataset=shapes, {PLACES[task.target]}."
        )
    shown = None
    whole = source.source if isinstance(source, DenseSubset) else source
    if isinstance(whole, DenseFolder):
        rows = source.indices if whole is not source else np.arange(len(source))
        shown = whole.check(task.target, rows)
    # Decoding all pictures would take long. The first ones show a wrong kind of file.
    clean, known = Cleaned(source, task.target), False
    for index in range(len(source)):
        example = clean.example(index)
        known = known or knows(task.target, example, len(source.class_names))
        if known and index + 1 >= CHECKED:
            break
    if not known:
        raise InputError(
            f"the {len(source):,} pictures of {source.name} {source.split} have no "
            f"{KNOWN[task.target]}; check its files."
        )
    return shown if task.target == "mask" else None
