"""Prepares data sets as array_record: CIFAR, folders, and those of tensorflow-datasets.

CIFAR and folders are read by this package, and need no other one.
"""

import importlib.util
import os
from pathlib import Path

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.cifar import ARCHIVES, other_archive, prepare_cifar
from byol_bnfree.data.folder_set import prepare_folder, set_name
from byol_bnfree.data.prepared import FILE_FORMAT, data_root, list_sets, needs_reader
from byol_bnfree.errors import InputError
from byol_bnfree.files import expanded, why_no_folder


def prepare(
    name: str,
    data_dir: str | None,
    archive: str | None = None,
    of_folder: TrainConfig | None = None,
) -> str:
    """Prepare a data set as array_record. Return a sentence about it.

    CIFAR-10, CIFAR-100 and folders need no other package. tensorflow-datasets prepares
    all other sets.

    Args:
      name: NAME[/CONFIG][:VERSION] or folder:PATH.
      data_dir: root of the prepared sets; None means that of tensorflow-datasets.
      archive: the file that CIFAR comes in; None downloads it.
      of_folder: settings that say how a folder is read; None means the defaults.

    Raises:
      InputError: if a package is missing, the name is unknown, --data-dir is no folder,
        or preparing fails.
    """
    root = data_root(data_dir)
    if (why := why_no_folder(root)) is not None:
        raise InputError(
            f"--data-dir {root} cannot take a data set: {why}; give a folder."
        )
    if name.startswith("folder:"):
        _refuse_archive(name, archive)
        path = os.path.expanduser(name.removeprefix("folder:"))
        return prepare_folder(path, root, of_folder or TrainConfig())
    wanted, _, version = name.partition(":")
    _check_flags(name, archive, of_folder)
    for there in list_sets(root):
        same = there.name == wanted and version in ("", there.version)
        if same and there.file_format == FILE_FORMAT:
            return f"{name} is already prepared: {there.path}"
    if wanted in ARCHIVES:
        file = None if archive is None else expanded(archive)
        folder = prepare_cifar(wanted, root, file)
        note = None if file is None else other_archive(wanted, file)
        return f"{name} is prepared: {folder}" + (f"\nnote: {note}" if note else "")
    return f"{name} is prepared: {_prepare_by_tfds(name, root)}"


def known_as(name: str) -> str:
    """Return the name of a prepared set, for --dataset."""
    if name.startswith("folder:"):
        return set_name(os.path.expanduser(name.removeprefix("folder:")))
    return name


def _refuse_archive(name: str, archive: str | None) -> None:
    if archive is not None:
        raise InputError(
            f"--archive belongs to {' and '.join(ARCHIVES)}, and not to {name}; remove "
            f"it."
        )


def _check_flags(name: str, archive: str | None, of_folder: TrainConfig | None) -> None:
    """Raise `InputError` if flags or the version do not belong to a named set."""
    wanted, _, version = name.partition(":")
    if of_folder is not None:
        raise InputError(
            f"--data.*, --on-bad-image and --evaluation.skip belong to folder:PATH, "
            f"and not to {name}; remove them."
        )
    if wanted not in ARCHIVES:
        _refuse_archive(name, archive)
    elif version not in ("", ARCHIVES[wanted].version):
        raise InputError(
            f"{wanted} has no version {version} here; prepare {wanted}, which is "
            f"version {ARCHIVES[wanted].version}."
        )


def _prepare_by_tfds(name: str, root: Path) -> str:
    """Prepare a set by tensorflow-datasets. Return its folder."""
    if importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            f"{name} is none of {', '.join(ARCHIVES)} and folder:PATH, so only "
            f"tensorflow-datasets can prepare it, with TensorFlow; check the name, or "
            f'install both: pip install ".[tf]"'
        )
    needs_reader()
    import tensorflow_datasets as tfds  # the import takes seconds

    try:
        builder = tfds.builder(name, data_dir=str(root), file_format=FILE_FORMAT)
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(
            f"tensorflow-datasets has no data set {name}; see "
            f"https://www.tensorflow.org/datasets/catalog for the names."
        ) from error
    except AssertionError as error:  # its way to refuse a version
        raise InputError(f"{error} Give one of these, or none.") from error
    try:
        builder.download_and_prepare()
    except Exception as error:  # no network, no space, or files to download by hand
        raise InputError(
            f"preparing {name} failed with {type(error).__name__}: {error}"
        ) from error
    return str(builder.data_dir)
