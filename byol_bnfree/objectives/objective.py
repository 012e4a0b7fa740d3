"""The description of an objective for the training step."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from jaxtyping import Array, Float, Int

Target = Literal["moving_average", "stop_gradient", "none"]
"""The network that makes the targets: the target network, the online network as a
constant, or the online network with its gradient."""


class Passed(NamedTuple):
    """The networks' outputs for a batch, float32. Tuples have one entry per view.

    There are two views. The loss of several views of BYOL is in `several_views`.
    """

    projections: tuple[Float[Array, "b k"], ...]
    predictions: tuple[Float[Array, "b p"], ...]
    targets: tuple[Float[Array, "b k"], ...]
    """Constants of the loss, unless the objective's `target` is none."""
    memory: dict[str, Array]
    """Arrays that the objective has kept from earlier batches."""
    answers: Int[Array, "b v"] | None
    """How the views were changed, for an objective that predicts it."""


class Objective(NamedTuple):
    """Pure functions of arrays. Optional functions are None if a method does not need
    them."""

    loss: Callable[[Passed], Float[Array, " b"]]
    """Returns a loss for each example. The step takes the mean."""
    target: Target = "moving_average"
    change_views: Callable[..., tuple[Sequence[Array], Array]] | None = None
    """Maps (key, views, positions) to (views, answers)."""
    keep: Callable[[Passed], Float[Array, "b ..."]] | None = None
    """Returns an array to keep for each example of the batch."""
    remember: Callable[[dict[str, Array], Array], dict[str, Array]] | None = None
    """Maps (memory, kept arrays of the whole batch) to the new memory."""
    first_memory: Callable[[Array, int], dict[str, Array]] | None = None
    """Maps (key, width of a projection) to the memory of step 0."""
