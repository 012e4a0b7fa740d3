"""The parts of a dense task. `tasks` lists all tasks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float

from byol_bnfree.data.dense.example import Example
from byol_bnfree.data.dense.view import DenseView
from byol_bnfree.encoder import Encoder
from byol_bnfree.evaluation.dense.colours import random_colours
from byol_bnfree.evaluation.dense.settings import DenseSettings
from byol_bnfree.evaluation.dense.training import Fitted, Fitter
from byol_bnfree.evaluation.kept.unfinished import Unfinished

Figures = dict[str, float]
NOTHING = Unfinished()


class Score(NamedTuple):
    """The figures of a fitted network, and its first predictions."""

    figures: Figures
    examples: Example
    predicted: Any


@dataclass(frozen=True)
class Task:
    """What distinguishes one dense task from another."""

    name: str
    target: str
    """What the data must know: mask, depth or boxes."""
    best: str
    """The figure that chooses the learning rate."""
    head: Callable[[Encoder, DenseView, DenseSettings], nn.Module]
    loss: Callable[[Any, dict[str, Array], bool], Float[Array, ""]]
    """From the head's outputs, a batch and `places.at_start` to the mean loss."""
    score: Callable[[Fitter, Fitted, DenseView], Score]
    less_is_better: bool = False
    """Of the figure `best`."""

    def fitter(
        self,
        encoder: Encoder,
        view: DenseView,
        settings: DenseSettings,
        *,
        seed: int,
        mesh: Mesh,
        unfinished: Unfinished = NOTHING,
    ) -> Fitter:
        """Return the fitter of this task on an encoder."""
        coloured = getattr(settings, "colour", False) and view.image_shape[-1] == 3
        return Fitter(
            encoder,
            self.head(encoder, view, settings),
            self.loss,
            settings,
            seed,
            mesh,
            unfinished,
            random_colours if coloured else None,
        )
