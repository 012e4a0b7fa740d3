"""The gradient of a batch with several views per image, or small views.

All views pass together or one after the other. The results are equal: the loss of an
image is a sum over its views, and BatchNorm's statistics belong to a single view.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from byol_bnfree.assembly import has_small_predictor
from byol_bnfree.config import TrainConfig
from byol_bnfree.data.views import AllViews, Batch, all_views
from byol_bnfree.models.byol import BYOLNetwork, Outputs
from byol_bnfree.objectives.normalization import LOSS_NORMALIZATIONS
from byol_bnfree.objectives.several_views import aims_of, loss_of_view, loss_of_views
from byol_bnfree.training.passes import (
    Averaged,
    Forward,
    Gradient,
    forward_of,
    of_views,
    probe_of,
)
from byol_bnfree.training.state import TrainState

Targets = tuple[Float[Array, "b k"], ...]
"""The target projection of each large view."""
Losses = tuple[Float[Array, " b"], Float[Array, " b"]]
"""BYOL's and the probe's loss for each image."""


@dataclass(frozen=True)
class Passes:
    """Ways to pass the views of a batch through the online network."""

    network: BYOLNetwork
    config: TrainConfig
    unroll: bool
    """Copy the program of a view instead of looping over it."""

    @cached_property
    def small_predictor(self) -> str:
        """Return the name of the part that predicts from small views."""
        return "small_predictor" if has_small_predictor(self.config) else "predictor"

    def of_large(self, params, stats, view) -> tuple[Outputs, Any]:
        """Return the outputs of a large view, and the statistics after it."""
        return self.network.online(params, stats, view, True)

    def of_small(self, params, stats, view) -> tuple[Outputs, Any]:
        """Return the outputs of a small view, and the statistics after it.

        BatchNorm normalizes the view by its own statistics. The running statistics stay
        those of large views, which evaluation is about. Only a predictor of small views
        has those of small views.
        """
        part = self.small_predictor
        outputs, after = self.network.online(params, stats, view, True, part)
        own = {"small_predictor"} & after.keys()
        return outputs, stats | {name: after[name] for name in own}

    @property
    def normalize(self) -> Callable[[Array], Array]:
        """Return the normalization of predictions and targets."""
        return LOSS_NORMALIZATIONS[self.config.byol.loss_normalization]

    def losses(
        self, outputs: Outputs, aims: Array, labels: Int[Array, " b"], is_first: Any
    ) -> Losses:
        """Return one view's part of the losses. The probe reads the first view only."""
        total = self.config.views.count + self.config.views.small
        loss = loss_of_view(outputs.prediction, aims, self.normalize, total)
        return loss, is_first * probe_of(outputs, loss, labels)

    def together(self, params, stats, drawn: AllViews, targets: Targets, labels):
        """Return gradient, statistics and `Forward` of all views in one program."""

        def mean_loss(params):
            """Return the mean loss of all views, and the statistics after them."""
            large, after = of_views(
                self.network.online, self.network.views, params, stats, drawn.large
            )
            small = []
            for view in drawn.small:
                output, after = self.of_small(params, after, view)
                small.append(output.prediction)
            loss = loss_of_views(
                [output.prediction for output in large],
                targets,
                small,
                self.config.views.targets,
                self.normalize,
            )
            probe = probe_of(large[0], loss, labels)
            forward = forward_of(large, loss, probe, labels)
            return jnp.mean(loss + probe), (after, forward)

        grads, (after, forward) = jax.grad(mean_loss, has_aux=True)(params)
        return grads, after, forward

    def one_by_one(self, params, stats, drawn: AllViews, targets: Targets, labels):
        """Return the same, with the activations of one view alive at a time."""
        views, total = self.config.views, (jax.tree.map(jnp.zeros_like, params), stats)
        aims, small_aims = aims_of(targets, views.targets, self.normalize)
        is_first = (jnp.arange(views.count) == 0).astype(jnp.float32)
        pieces = (jnp.stack(drawn.large), aims, is_first)
        total, (large, parts) = self._add(params, labels, total, pieces, self.of_large)
        loss, probe = (part.sum(0) for part in parts)
        if drawn.small:
            repeated = jnp.broadcast_to(small_aims, (views.small, *small_aims.shape))
            pieces = (jnp.stack(drawn.small), repeated, jnp.zeros(views.small))
            total, (_, parts) = self._add(params, labels, total, pieces, self.of_small)
            loss = loss + parts[0].sum(0)
        # The metrics of a step compare the first two views.
        first_two = [jax.tree.map(lambda x, i=i: x[i], large) for i in (0, 1)]
        return *total, forward_of(first_two, loss, probe, labels)

    def _add(self, params, labels, total, pieces, online: Callable[..., Any]):
        """Loop over views of one size. Add their gradients to those in `total`.

        `online` is `of_large` or `of_small`.
        """

        def add(total, piece):
            """Add the gradient of one view."""
            grads, stats = total
            view, aim, is_first = piece

            def mean_loss(params):
                """Return the mean loss of the view, and the statistics after it."""
                outputs, after = online(params, stats, view)
                parts = self.losses(outputs, aim, labels, is_first)
                return jnp.mean(sum(parts)), (after, outputs, parts)

            more, (after, *found) = jax.grad(mean_loss, has_aux=True)(params)
            return (jax.tree.map(jnp.add, grads, more), after), tuple(found)

        return jax.lax.scan(add, total, pieces, unroll=self.unroll)

    def targets(self, state: TrainState, large: tuple[Array, ...]):
        """Return target projections of the large views, and the target's statistics."""
        params, stats = state.target_params, state.target_stats
        if not self.config.views.accumulate:
            return of_views(
                self.network.target, self.network.views, params, stats, large
            )

        def body(stats, view):
            projection, stats = self.network.target(params, stats, view, True)
            return stats, projection

        stats, projections = jax.lax.scan(
            body, stats, jnp.stack(large), unroll=self.unroll
        )
        return tuple(projections), stats


def make_gradient_of_views(
    network: BYOLNetwork, config: TrainConfig, unroll: bool
) -> Gradient:
    """Return the function (state, batch, key) -> (`Averaged`, `Forward`).

    `key` is that of the step.

    Running statistics are updated once per large view. Small views pass through the
    online network only, and leave its running statistics as they are. The probe reads
    the first large view.
    """
    passes, views = Passes(network, config, unroll), config.views
    online = passes.one_by_one if views.accumulate else passes.together

    def gradient(
        state: TrainState, batch: Batch, key: Array
    ) -> tuple[Averaged, Forward]:
        """Draw the views, make their targets, and differentiate."""
        drawn, labels = all_views(key, batch, config.augment, views), batch["label"]
        targets, target_stats = passes.targets(state, drawn.large)
        grads, stats, forward = online(
            state.online_params, state.online_stats, drawn, targets, labels
        )
        return Averaged(grads, stats, target_stats), forward

    return gradient
