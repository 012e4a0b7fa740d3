"""What a training step needs to know of an objective."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from jaxtyping import Array, Float, Int

Target = Literal["moving_average", "stop_gradient", "none"]
"""The network that makes the targets: the target network, the online network as a
constant, or the online network with its gradient."""


class Passed(NamedTuple):
    """The networks' outputs for a batch, float32; tuples have one entry a view."""

    projections: tuple[Float[Array, "b k"], ...]
    predictions: tuple[Float[Array, "b p"], ...]
    targets: tuple[Float[Array, "b k"], ...]
    memory: dict[str, Array]
    """What the objective has kept of earlier batches."""
    answers: Int[Array, "b v"] | None
    """What was done to the views, for an objective that asks for it."""


class Objective(NamedTuple):
    """Pure functions of arrays. The optional ones are None where a method has no use
    for them."""

    loss: Callable[[Passed], Float[Array, " b"]]
    """A loss for each example; the step takes the mean."""
    target: Target = "moving_average"
    change_views: Callable[..., tuple[Sequence[Array], Array]] | None = None
    """(key, views, positions) -> (views, answers)."""
    keep: Callable[[Passed], Float[Array, "b ..."]] | None = None
    """What is kept of each example of the batch."""
    remember: Callable[[dict[str, Array], Array], dict[str, Array]] | None = None
    """(memory, what was kept of a whole batch) -> memory."""
    first_memory: Callable[[Array, int], dict[str, Array]] | None = None
    """(key, width of a projection) -> memory of step 0."""


def view_pairs(views: int) -> Iterator[tuple[int, int]]:
    """Every (predicted from, target of), so that each view meets all others."""
    for first in range(views):
        for second in range(views):
            if first != second:
                yield first, second
