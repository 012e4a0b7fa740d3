"""A run whose numbers are no longer finite ends, and says what is kept of it."""

import contextlib
from collections.abc import Iterator

import jax

from byol_bnfree.errors import RunStopped
from byol_bnfree.training.checkpoint import Checkpoints

DIVERGED = 4
"""Exit status of a run with non-finite numbers. It is a result, not an error."""


class Diverged(RunStopped):
    """A number of a step is not finite."""


@contextlib.contextmanager
def divergence_explained(checkpoints: Checkpoints) -> Iterator[None]:
    """Add to a `Diverged` what is kept, and what to do.

    A folder with a checkpoint resumes only with its own settings.
    """
    try:
        yield
    except Diverged as error:
        if jax.process_count() == 1:  # otherwise this could wait for a lost process
            with contextlib.suppress(OSError):
                checkpoints.wait()
        kept = checkpoints.steps()
        advice = "lower --base-lr or lengthen --optim.warmup-epochs"
        if kept:
            outcome = f"the checkpoint of step {kept[-1]} is kept"
            advice += ", in another --workdir"
        else:
            outcome = "no checkpoint was saved before it"
        raise RunStopped(f"{error}; {outcome}: {advice}.", DIVERGED) from error
