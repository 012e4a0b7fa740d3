"""Finds and loads the newest intact checkpoint."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from byol_bnfree.errors import InputError
from byol_bnfree.leaves import by_path
from byol_bnfree.training.items import join, split
from byol_bnfree.training.manifest import MANIFEST, verify_manifest

_log = logging.getLogger(__name__)
NONE, ALL_DAMAGED = -1, -2  # stand for a step where there is none to load
TRIES = 5  # with a run that deletes its checkpoints meanwhile


def load_newest(
    workdir: Path, abstract_state: PyTree, warn: Callable[[str], None] = _log.warning
) -> tuple[PyTree, int]:
    """Return (state, step) of a run's newest intact checkpoint; change nothing there.

    See `Checkpoints.restore` for `abstract_state`. `warn` receives a sentence for each
    damaged checkpoint.

    Raises:
      InputError: as `restore`, and if there is no checkpoint.
    """

    def load_step(root: Path, step: int) -> PyTree:
        """Load the whole state."""
        return load(root, step, abstract_state)

    return _from_newest(workdir, load_step, warn)


def load_items(
    workdir: Path,
    abstract_items: dict[str, PyTree],
    warn: Callable[[str], None] = _log.warning,
) -> tuple[dict[str, PyTree], int]:
    """Load some items of a run's newest intact checkpoint; also return its step.

    Other items are neither read nor built: an encoder needs no optimizer. Items that
    the checkpoint lacks are missing in the result.

    Raises:
      InputError: as `load_newest`, and if an item has other shapes.
    """

    def load_step(root: Path, step: int) -> dict[str, PyTree]:
        """Load the items that the checkpoint has."""
        if step == ALL_DAMAGED:
            raise _all_damaged(root)
        folder = root / str(step)
        there = {n: tree for n, tree in abstract_items.items() if (folder / n).is_dir()}
        with _as_sentence(folder):
            for name, tree in there.items():
                _check_shapes(folder, name, tree)
            return ocp.load_checkpointables(folder, there)

    return _from_newest(workdir, load_step, warn)


def _from_newest(
    workdir: Path,
    load_step: Callable[[Path, int], PyTree],
    warn: Callable[[str], None],
) -> tuple[PyTree, int]:
    """Return (`load_step(root, step)`, step) of a run's newest intact checkpoint.

    A run that saves meanwhile deletes old checkpoints, perhaps the one that is being
    read. It has committed a newer one before, so that one is looked for again.
    """
    root = workdir.absolute() / "checkpoints"
    for _ in range(TRIES):
        before = committed_steps(root)
        said: list[str] = []
        step, error = NONE, None
        try:
            step = newest_intact(root, said.append)
            if step == NONE:
                raise InputError(f"{workdir} holds no checkpoint; {_begun(workdir)}.")
            found = load_step(root, step)
        except InputError as raised:
            error = raised
        # The manifest is deleted first. What was read after that may lack files.
        deleted = {*before} - {*committed_steps(root)}
        if step in deleted or (step in (NONE, ALL_DAMAGED) and deleted):
            continue
        for sentence in said:
            warn(sentence)
        if error is not None:
            raise error
        return found, step
    raise InputError(
        f"{TRIES} checkpoints in {root} were deleted while they were read; try again, "
        f"or give the run a larger --run.keep."
    )


def _check_shapes(folder: Path, name: str, abstract: PyTree) -> None:
    """Compare shapes with the checkpoint's own list, before any array is read."""
    found = ocp.checkpointables_metadata(folder).metadata[name]
    _compare(folder, describe_leaves(found), describe_leaves(abstract))


def saved_steps(root: Path) -> list[int]:
    """Return the steps of all folders in `root`, committed or not, oldest first.

    There are none without `root`.
    """
    return sorted(int(p.name) for p in root.glob("*") if p.name.isdecimal())


def committed_steps(root: Path) -> list[int]:
    """Return the steps of the checkpoints that have a manifest, oldest first."""
    return [s for s in saved_steps(root) if (root / str(s) / MANIFEST).exists()]


def newest_intact(root: Path, warn: Callable[[str], None]) -> int:
    """Return the step to restore, or NONE or ALL_DAMAGED. Warn about skipped ones."""
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
    """Load the state in `root/<step>`, where `step` may be ALL_DAMAGED.

    Raises:
      InputError: if all checkpoints are damaged, or this one belongs to another
        architecture or is incomplete.
    """
    if step == ALL_DAMAGED:
        raise _all_damaged(root)
    folder = root / str(step)
    with _as_sentence(folder):
        found = ocp.metadata(folder).custom_metadata["leaves"]
        _compare(folder, found, describe_leaves(abstract_state))
        return join(ocp.load_checkpointables(folder, split(abstract_state)))


def _all_damaged(root: Path) -> InputError:
    return InputError(
        f"Every checkpoint in {root} is damaged; restore a copy of one, or start "
        "again in another --workdir."
    )


@contextlib.contextmanager
def _as_sentence(folder: Path) -> Iterator[None]:
    """Turn Orbax's errors into a message. A folder may lack files it never had."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, KeyError) as error:
        cause = str(error.__context__ or error).splitlines()[0][:200]
        raise InputError(
            f"{folder} is undamaged but cannot be loaded ({cause}); delete it, "
            "and the same command resumes from the checkpoint before it."
        ) from error


def describe_leaves(tree: PyTree) -> dict[str, str]:
    """Map the dotted name of each leaf to a text such as "float32[3,3,64,64]"."""
    return {
        name: f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        for name, leaf in by_path(tree, separator=".").items()
    }


def _compare(folder: Path, found: dict[str, str], expected: dict[str, str]) -> None:
    for name in expected | found:
        here, there = expected.get(name, "absent"), found.get(name, "absent")
        if here != there:
            raise InputError(
                f"{folder} belongs to another architecture: {name} is {there} in the "
                f"checkpoint and {here} in this run; use the settings of the "
                "checkpoint, or another --workdir."
            )


def _begun(workdir: Path) -> str:
    """Return what to do about a folder without a checkpoint."""
    if (workdir / "config.json").exists():
        return "its run has saved none yet, and the same training command begins it"
    return "give the folder of a run"
