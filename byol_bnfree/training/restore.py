"""Which checkpoint is the newest intact one, and loading it."""

import logging
from collections.abc import Callable
from pathlib import Path

import jax
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from byol_bnfree.errors import InputError
from byol_bnfree.training.manifest import MANIFEST, verify_manifest

_log = logging.getLogger(__name__)
NONE, ALL_DAMAGED = -1, -2  # what can be said instead of a step


def load_newest(
    workdir: Path, abstract_state: PyTree, warn: Callable[[str], None] = _log.warning
) -> tuple[PyTree, int]:
    """(state, step) of the newest intact checkpoint of a run; changes nothing there.

    Arguments are those of `Checkpoints` and its `restore`.

    Raises:
      InputError: as `restore`, and if there is no checkpoint.
    """
    root = workdir.absolute() / "checkpoints"
    step = newest_intact(root, warn) if root.is_dir() else NONE
    if step == NONE:
        raise InputError(f"{workdir} holds no checkpoint; give the folder of a run.")
    return load(root, step, abstract_state), step


def saved_steps(root: Path) -> list[int]:
    """Steps of the folders in `root`, committed or not, oldest first."""
    return sorted(int(p.name) for p in root.glob("*") if p.name.isdecimal())


def newest_intact(root: Path, warn: Callable[[str], None]) -> int:
    """The step to restore, or NONE or ALL_DAMAGED; warns about those passed over."""
    damaged = False
    for step in reversed(saved_steps(root)):
        folder = root / str(step)
        problems = verify_manifest(folder)
        if not problems:
            return step
        damaged |= (folder / MANIFEST).exists()
        warn(f"Checkpoint {folder} is not used: {problems[0]}.")
    return ALL_DAMAGED if damaged else NONE


def load(root: Path, step: int, abstract_state: PyTree) -> PyTree:
    """The state in `root/<step>`, where `step` may be ALL_DAMAGED.

    Raises:
      InputError: all are damaged, or this one is of another architecture, or what was
        committed was not complete.
    """
    if step == ALL_DAMAGED:
        raise InputError(
            f"Every checkpoint in {root} is damaged; restore a copy of one, or start "
            "again in another --workdir."
        )
    folder = root / str(step)
    try:
        _check_leaves(folder, abstract_state)
        return ocp.load(folder, abstract_state)
    except InputError:
        raise
    except (OSError, ValueError) as error:  # deleted in part before it was committed
        raise InputError(
            f"{folder} is as it was saved but cannot be loaded "
            f"({str(error).splitlines()[0][:200]}); delete it, and the same command "
            "resumes from the one before."
        ) from error


def describe_leaves(tree: PyTree) -> dict[str, str]:
    """Dotted name -> "float32[3,3,64,64]" of every leaf."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): (
            f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        )
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _check_leaves(folder: Path, abstract_state: PyTree) -> None:
    found = ocp.metadata(folder).custom_metadata["leaves"]
    expected = describe_leaves(abstract_state)
    for name in expected | found:
        here, there = expected.get(name, "absent"), found.get(name, "absent")
        if here != there:
            raise InputError(
                f"{folder} is of another architecture: {name} is {there} in the "
                f"checkpoint and {here} in this run; use the settings it was saved "
                "with, or another --workdir."
            )
