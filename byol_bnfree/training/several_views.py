"""The gradient of a batch with several views per image, or small views.

All views pass together or one after the other. The results are equal: the loss of an
image is a sum over its views, and BatchNorm's statistics belong to a single view.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.several_views import AllViews, Batch, all_views
from byol_bnfree.losses import probe_loss
from byol_bnfree.models.byol import BYOLNetwork, has_small_predictor
from byol_bnfree.objectives.normalization import LOSS_NORMALIZATIONS
from byol_bnfree.objectives.several_views import aims_of, loss_of_view
from byol_bnfree.training.passes import Forward, of_views
from byol_bnfree.training.state import TrainState

Aims = tuple[Float[Array, "n a b k"], Float[Array, "a2 b k"]]


def make_gradient_of_views(
    network: BYOLNetwork, config: TrainConfig, unroll: bool
) -> Callable[..., Any]:
    """Return (key, state, batch) -> ((gradient, statistics), (`Forward`, labels)).

    Running statistics are updated once per view, large views first. Small views pass
    through the online network only. The probe reads the first large view.
    """
    views, total = config.views, config.views.count + config.views.small
    normalize = LOSS_NORMALIZATIONS[config.byol.loss_normalization]
    small_part = "small_predictor" if has_small_predictor(config) else "predictor"

    def part_of_loss(outputs, aims, labels, is_first):
        """Return one view's loss per image; add the probe's for the first view."""
        loss = loss_of_view(outputs.prediction, aims, normalize, total)
        probe = jnp.zeros_like(loss)
        if outputs.logits is not None:
            probe = is_first * probe_loss(outputs.logits, labels)
        return loss, probe

    def together(params, stats, drawn: AllViews, aims: Aims, labels):
        """Return the mean loss of all views, with statistics, outputs and losses."""
        large, stats = of_views(
            network.online, network.views, params, stats, drawn.large
        )
        small = []
        for view in drawn.small:
            output, stats = network.online(params, stats, view, True, small_part)
            small.append(output)
        losses = [
            part_of_loss(output, aim, labels, float(index == 0))
            for index, (output, aim) in enumerate(zip(large, aims[0], strict=True))
        ]
        losses += [part_of_loss(output, aims[1], labels, 0.0) for output in small]
        loss, probe = (sum(parts) for parts in zip(*losses, strict=True))
        return jnp.mean(loss + probe), (stats, _forward(large, loss, probe))

    def one_by_one(params, stats, drawn: AllViews, aims: Aims, labels):
        """Return the gradient and the same results; keep one view's activations."""

        def add(carry, piece, predictor):
            total, stats = carry
            view, aim, is_first = piece

            def loss_fn(params):
                output, after = network.online(params, stats, view, True, predictor)
                parts = part_of_loss(output, aim, labels, is_first)
                return jnp.mean(sum(parts)), (after, output, parts)

            (_, (after, output, parts)), grads = jax.value_and_grad(
                loss_fn, has_aux=True
            )(params)
            return (jax.tree.map(jnp.add, total, grads), after), (output, parts)

        def scan(carry, pieces, predictor):
            def body(carry, piece):
                return add(carry, piece, predictor)

            return jax.lax.scan(body, carry, pieces, unroll=unroll)

        carry = (jax.tree.map(jnp.zeros_like, params), stats)
        is_first = (jnp.arange(views.count) == 0).astype(jnp.float32)
        pieces = (jnp.stack(drawn.large), aims[0], is_first)
        carry, (large, parts) = scan(carry, pieces, "predictor")
        loss, probe = (part.sum(0) for part in parts)
        if drawn.small:
            repeated = jnp.broadcast_to(aims[1], (views.small, *aims[1].shape))
            pieces = (jnp.stack(drawn.small), repeated, jnp.zeros(views.small))
            carry, (_, parts) = scan(carry, pieces, small_part)
            loss = loss + parts[0].sum(0)
        outputs = [jax.tree.map(lambda x, i=i: x[i], large) for i in (0, 1)]
        return carry, _forward(outputs, loss, probe)

    def gradient(key: Array, state: TrainState, batch: Batch):
        drawn, labels = all_views(key, batch, config.augment, views), batch["label"]
        targets, target_stats = _targets(
            network, state, drawn, unroll if views.accumulate else None
        )
        aims = aims_of(targets, views.targets, normalize)
        inputs = (state.online_params, state.online_stats, drawn, aims, labels)
        if views.accumulate:
            (grads, stats), forward = one_by_one(*inputs)
        else:
            grad = jax.value_and_grad(together, has_aux=True)
            (_, (stats, forward)), grads = grad(*inputs)
        return (grads, (stats, target_stats)), (forward, labels)

    return gradient


def _targets(
    network: BYOLNetwork, state: TrainState, drawn: AllViews, unroll: bool | None
):
    """Target projections of the large views, and the target's statistics.

    `unroll` is None where the views pass together, else that of the loop over them.
    """
    if unroll is None:
        params, stats = state.target_params, state.target_stats
        return of_views(network.target, network.views, params, stats, drawn.large)

    def body(stats, view):
        projection, stats = network.target(state.target_params, stats, view, True)
        return stats, projection

    stats, projections = jax.lax.scan(
        body, state.target_stats, jnp.stack(drawn.large), unroll=unroll
    )
    return tuple(projections), stats


def _forward(outputs, loss: Array, probe: Array) -> Forward:
    """Results of a pass; representation and probe are those of the first view."""
    return Forward(
        loss,
        probe,
        outputs[0].representation,
        outputs[0].projection,
        outputs[1].projection,
        outputs[0].logits,
    )
