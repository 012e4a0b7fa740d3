"""The loss and gradient of a batch: views, both networks, micro-batches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.views import Batch, all_views
from byol_bnfree.errors import InputError
from byol_bnfree.models.byol import BYOLNetwork
from byol_bnfree.objectives import Objective, Passed, make_objective
from byol_bnfree.objectives.byol import BYOL
from byol_bnfree.training.passes import (
    Averaged,
    Forward,
    Gradient,
    check_together,
    forward_of,
    of_views,
    probe_of,
)
from byol_bnfree.training.several_views import make_gradient_of_views
from byol_bnfree.training.state import TrainState


def step_key(key: Array, step: Array | int) -> Array:
    """Return the key of a step. Examples fold in their position in the global batch."""
    return jax.random.fold_in(key, step)


def make_loss(network: BYOLNetwork, objective: Objective = BYOL) -> Callable[..., Any]:
    """Return the function for the mean loss of two normalized views.

    With BatchNorm each view has its own statistics, and the running statistics are
    updated twice per step, view 1 first. The target runs in training mode. Its
    statistics are its own and are never averaged (DeepMind's loss_fn).
    """

    def loss_fn(online_params, state: TrainState, views, labels, answers=None):
        """Return the loss, and (online, target statistics) with a `Forward`."""
        (out1, out2), stats = of_views(
            network.online, network.views, online_params, state.online_stats, views
        )
        projections = (out1.projection, out2.projection)
        predictions = (out1.prediction, out2.prediction)
        # Without a moving average the target is the online network: no second pass.
        targets, target_stats = projections, state.target_stats
        if objective.target == "moving_average":
            targets, target_stats = of_views(
                network.target,
                network.views,
                state.target_params,
                state.target_stats,
                views,
            )
        if objective.target != "none":
            targets = jax.lax.stop_gradient(targets)
        passed = Passed(projections, predictions, targets, state.memory, answers)
        loss = objective.loss(passed)
        probe = probe_of(out1, loss, labels)
        kept = objective.keep(passed) if objective.keep else None
        forward = forward_of((out1, out2), loss, probe, labels, kept)
        # One gradient trains both. The probe's does not reach the encoder.
        return jnp.mean(loss + probe), ((stats, target_stats), forward)

    return loss_fn


def make_gradient(
    network: BYOLNetwork,
    config: TrainConfig,
    data_devices: int,
    unroll: bool,
) -> Gradient:
    """Return the function (state, batch, key) -> (`Averaged`, `Forward`).

    k micro-batches give the gradient, statistics and outputs of the full batch: the
    loss is a mean over examples, and running statistics are linear in those of the
    batch.

    Raises:
      InputError: if the network's `views` never pass side by side.
    """
    check_together(network.views, config)
    objective = make_objective(config)
    loss_and_grad = jax.value_and_grad(make_loss(network, objective), has_aux=True)
    of_several_views = make_gradient_of_views(network, config, unroll)

    def gradient(
        state: TrainState, batch: Batch, key: Array
    ) -> tuple[Averaged, Forward]:
        """Compute the gradient. Views depend on each example's position only."""
        key = step_key(key, state.step)

        def of_piece(piece: Batch) -> tuple[Averaged, Forward]:
            """Return the results of a micro-batch."""
            if not config.views.plain:
                return of_several_views(state, piece, key)
            views = all_views(key, piece, config.augment, config.views).large
            answers = None
            # Rotation turns the views, and its answers are the turns.
            if objective.change_views:
                views, answers = objective.change_views(key, views, piece["position"])
            (_, (stats, forward)), grads = loss_and_grad(
                state.online_params, state, views, piece["label"], answers
            )
            return Averaged(grads, *stats), forward

        if config.micro_batches == 1:
            return of_piece(batch)
        stacked = _split(batch, config.micro_batches, data_devices)
        return _accumulate(of_piece, stacked, unroll, data_devices)

    return gradient


def _split(tree: Any, pieces: int, devices: int) -> Any:
    """Cut a batch into micro-batches, stacked as [k b ...].

    Each takes an equal piece of every device's part, so examples stay on their device.

    Raises:
      InputError: if there are no such equal pieces.
    """
    count = len(jax.tree.leaves(tree)[0])
    if count % (devices * pieces):
        raise InputError(
            f"a batch of {count} images cannot be cut into {pieces} micro-batches on "
            f"{devices} device{'s' * (devices > 1)}; give a multiple of "
            f"{devices * pieces} images, or another config.micro_batches."
        )
    return jax.tree.map(
        lambda x: rearrange(x, "(d k b) ... -> k (d b) ...", d=devices, k=pieces), tree
    )


def _accumulate(
    of_piece: Callable[[Batch], tuple[Averaged, Forward]],
    stacked: Any,
    unroll: bool,
    devices: int,
) -> tuple[Averaged, Forward]:
    """Average over micro-batches [k b ...]; return rows in the order of the batch."""

    def add(total, piece):
        averaged, forward = of_piece(piece)
        return jax.tree.map(jnp.add, total, averaged), forward

    pieces = len(jax.tree.leaves(stacked)[0])

    def mean(total):
        # The pieces agree on BatchNorm's count of updates. The quotient of floats may
        # be a little less than the whole number, which a cast would then lose.
        whole = jnp.issubdtype(total.dtype, jnp.integer)
        return total // pieces if whole else total / pieces

    shapes, _ = jax.eval_shape(of_piece, jax.tree.map(lambda x: x[0], stacked))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, forward = jax.lax.scan(add, zeros, stacked, unroll=unroll)
    return (
        jax.tree.map(mean, total),
        jax.tree.map(
            lambda x: rearrange(x, "k (d b) ... -> (d k b) ...", d=devices), forward
        ),
    )
