"""Claim: the loss of an example needs no other image."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from byol_bnfree.assembly import prediction_width
from byol_bnfree.claims.finding import Finding, short
from byol_bnfree.claims.settings import (
    LARGEST_IMAGE,
    for_analysis,
)
from byol_bnfree.config import TrainConfig
from byol_bnfree.diagnostics import (
    carried_over,
    gradient_independence,
    static_independence,
)
from byol_bnfree.objectives import Passed, make_objective
from byol_bnfree.objectives.normalization import LOSS_NORMALIZATIONS
from byol_bnfree.objectives.several_views import loss_of_views
from byol_bnfree.settings.objective_checks import couples_in_loss
from byol_bnfree.training.parts import build_parts


def loss_claim(config: TrainConfig) -> Finding:
    """Check whether the objective needs other images: of this batch, or of earlier
    ones.

    The check begins at the networks' outputs, so the norms do not matter.
    """
    config, data = for_analysis(config, config.data.image_size or LARGEST_IMAGE)
    objective = make_objective(config)
    state = build_parts(config, data).abstract_state
    memory = {k: jnp.zeros(x.shape, x.dtype) for k, x in state.memory.items()}
    passed = passed_of(config, memory)
    views = config.views

    def loss(rows):
        return objective.loss(passed.of(rows))

    width, which = passed.width, "two views"
    if (views.count, views.small) != (2, 0):
        loss, width = _loss_of_views(config)
        which = f"{views.count} large views and {views.small} small ones"
    examples = jax.ShapeDtypeStruct((config.batch_size, width), jnp.float32)

    # Both directions: a custom derivative may mix rows although the loss does not.
    reports = [static_independence(loss, examples)]
    reports += [gradient_independence(loss, examples)]
    places = [str(place) for report in reports for place in report.places[:2]]
    kept = None
    if objective.remember:
        drawn = jnp.zeros(examples.shape)
        kept = carried_over(
            objective.remember, memory, objective.keep(passed.of(drawn))
        )
    if kept:
        places.append(f"kept for later batches: {kept}")
    why, needs = couples_in_loss(config), None
    if why:
        needs = f"the other images of the batch for {why}"
    elif kept:
        why = config.objective
        needs = f"images of earlier batches for the queue of {why}"
    return Finding(
        "the loss of an example does not depend on others",
        f"every operation of the loss of {config.objective} and of its gradient, from "
        f"the networks' outputs on, {config.batch_size} images, {which}",
        short("; ".join(dict.fromkeys(places))) or "no mixing operation",
        not places,
        note=f"The loss needs {needs}." if needs else "",
        expected_of=why,
    )


class PassedRows(NamedTuple):
    """The layout of all inputs of a loss: one row for each image."""

    widths: tuple[int, ...]
    memory: dict[str, Array]

    @property
    def width(self) -> int:
        """Length of a row: projections, predictions and targets of both views."""
        return 2 * sum(self.widths)

    def of(self, rows: Float[Array, "b w"]) -> Passed:
        """Split rows into the inputs of a loss. All views are turned by 0 quarters."""
        ends = list(itertools.accumulate(w for w in self.widths for _ in range(2)))
        pieces = jnp.split(rows, ends[:-1], axis=1)
        answers = jnp.zeros((len(rows), 2), jnp.int32)
        return Passed(
            *(tuple(pieces[i : i + 2]) for i in (0, 2, 4)), self.memory, answers
        )


def _loss_of_views(config: TrainConfig) -> tuple[Callable[[Array], Array], int]:
    """Return BYOL's loss of several views as a function of rows, and a row's length.

    A row holds the predictions of an image's large views, their targets, and the
    predictions of its small views.
    """
    count, small = config.views.count, config.views.small
    width = config.model.projector.out
    normalize = LOSS_NORMALIZATIONS[config.byol.loss_normalization]

    def loss(rows: Float[Array, "b w"]) -> Float[Array, " b"]:
        pieces = jnp.split(rows, 2 * count + small, axis=1)
        predictions, targets = pieces[:count], pieces[count : 2 * count]
        small_ones = pieces[2 * count :]
        return loss_of_views(
            predictions, targets, small_ones, config.views.targets, normalize
        )

    return loss, width * (2 * count + small)


def passed_of(config: TrainConfig, memory: dict[str, Array]) -> PassedRows:
    """Return the row layout for a configuration's heads."""
    projection = config.model.projector.out
    widths = (projection, prediction_width(config), projection)
    return PassedRows(widths, memory)
