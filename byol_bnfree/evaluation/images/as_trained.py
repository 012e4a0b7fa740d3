"""Says if a run has ended, and if its data have changed since."""

from collections.abc import Sequence
from pathlib import Path

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.sources import Source, same_set
from byol_bnfree.evaluation.images.subset import whole
from byol_bnfree.training.dataset_file import changes_of, read_description
from byol_bnfree.training.saved_run import unfinished


def reads_own(run: TrainConfig, asked: TrainConfig) -> bool:
    """Return True if `asked` reads the run's own data set in the way the run did."""
    same = asked.data == run.data and asked.on_bad_image == run.on_bad_image
    return same and same_set(asked.dataset, run.dataset)


def print_unfinished(workdir: Path, step: int) -> None:
    """Print a note if the encoder of `step` is not that of the end of its run."""
    if (note := unfinished(workdir, step)) is not None:
        print(f"note: {note}", flush=True)


def print_changes(workdir: Path, sources: Sequence[Source]) -> None:
    """Print a note if these splits are not those that the run was trained on."""
    saved = read_description(workdir)
    if differing := changes_of(saved, [whole(source) for source in sources]):
        if place := sources[0].location:  # generated shapes have none
            differing.append(f"now in {place}")
        print(
            f"note: the data have changed since the run began ({'; '.join(differing)})",
            flush=True,
        )
