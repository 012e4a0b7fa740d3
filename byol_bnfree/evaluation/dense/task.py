"""The parts of a dense task. `tasks` lists all tasks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float

from byol_bnfree.data.dense.example import Example, stacked
from byol_bnfree.data.dense.view import DenseView
from byol_bnfree.encoder import Encoder
from byol_bnfree.evaluation.dense.colours import random_colours
from byol_bnfree.evaluation.dense.places import Grid
from byol_bnfree.evaluation.dense.settings import DenseSettings
from byol_bnfree.evaluation.dense.training import FitState, Fitter
from byol_bnfree.evaluation.kept.unfinished import NOTHING, Unfinished

Figures = dict[str, float]
SHOWN = 6  # examples that are drawn


class Score(NamedTuple):
    """The figures of a fitted network, and its first `SHOWN` predictions."""

    figures: Figures
    examples: Example
    predicted: Any


class Shown:
    """Keeps the first examples of a test split, with their predictions."""

    def __init__(self):
        self._examples: list[Example] = []
        self._predicted: list[Any] = []

    def add(
        self, batch: Example, predicted: Sequence[Any] | np.ndarray, count: int
    ) -> None:
        """Add the `count` true rows of a batch, as long as there is room."""
        for row in range(min(count, SHOWN - len(self._predicted))):
            self._examples.append({name: batch[name][row] for name in batch})
            self._predicted.append(predicted[row])

    def score(self, figures: Figures) -> Score:
        """Return the figures with the examples; arrays of predictions are stacked."""
        predicted = self._predicted
        if isinstance(predicted[0], np.ndarray):
            predicted = np.stack(predicted)
        return Score(figures, stacked(self._examples), predicted)


@dataclass(frozen=True)
class Task:
    """What distinguishes one dense task from another."""

    name: str
    target: str
    """What the data must know: mask, depth or boxes."""
    best: str
    """The figure that chooses the learning rate."""
    head: Callable[[Encoder, DenseView, DenseSettings], nn.Module]
    loss: Callable[[Any, dict[str, Array], Grid], Float[Array, ""]]
    """From the head's outputs, a batch and the network's grid to the mean loss."""
    score: Callable[[Fitter, FitState, DenseView], Score]
    less_is_better: bool = False
    """Of the figure `best`."""
    note: Callable[[Fitter, DenseView], str | None] = lambda fitter, train: None
    """What the user should know about the training pictures before the fits."""

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
        channels_are_colours = (
            view.image_shape[-1] == 3 and encoder.config.augment.colours
        )
        coloured = getattr(settings, "colour", False) and channels_are_colours
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
