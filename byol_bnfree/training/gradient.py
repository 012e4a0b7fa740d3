"""Loss and gradient of a batch: views, both networks, micro-batches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from byol_bnfree.config import AugmentConfig, TrainConfig
from byol_bnfree.data.augment import (
    normalize,
    two_views,
    two_views_of_crops,
)
from byol_bnfree.losses import probe_loss
from byol_bnfree.models.byol import BYOLNetwork
from byol_bnfree.objectives import Objective, Passed, make_objective
from byol_bnfree.objectives.byol import BYOL
from byol_bnfree.training.passes import Batch, Forward, of_views
from byol_bnfree.training.several_views import make_gradient_of_views
from byol_bnfree.training.state import TrainState


def make_views(
    key: Array, batch: Batch, augment: AugmentConfig
) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
    """Two normalized views; cropped here unless the host has cropped already.

    `batch` has "image" (uint8 [b h w c]) or "crops" (uint8 [b v h w c]), and
    "position" (int32 [b]) in the global batch, from which an example's key derives.
    """
    positions = batch["position"]
    if "crops" in batch:
        views = two_views_of_crops(key, batch["crops"], augment, positions=positions)
    else:
        views = two_views(key, batch["image"], augment, positions=positions)
    return normalize(views[0], augment), normalize(views[1], augment)


def step_key(seed: int, step: Array | int) -> Array:
    """The key of a step; examples fold in their position in the global batch."""
    return jax.random.fold_in(jax.random.key(seed), step)


def make_loss(network: BYOLNetwork, objective: Objective = BYOL) -> Callable[..., Any]:
    """Mean loss of two normalized views, with statistics and outputs beside it.

    Under BatchNorm statistics are per view and running values move twice a step, view 1
    first. The target runs in training mode with statistics of its own that are never
    averaged (DeepMind's loss_fn).
    """

    def loss_fn(online_params, state: TrainState, views, labels, answers=None):
        """The loss; beside it (online, target statistics) and a `Forward`."""
        (out1, out2), stats = of_views(
            network.online, network.views, online_params, state.online_stats, views
        )
        projections = (out1.projection, out2.projection)
        predictions = (out1.prediction, out2.prediction)
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
        probe = jnp.zeros_like(loss)
        if out1.logits is not None:
            probe = probe_loss(out1.logits, labels)
        forward = Forward(
            loss,
            probe,
            out1.representation,
            out1.projection,
            out2.projection,
            out1.logits,
            objective.keep(passed) if objective.keep else None,
        )
        return jnp.mean(loss + probe), ((stats, target_stats), forward)

    return loss_fn


def make_gradient(
    network: BYOLNetwork,
    config: TrainConfig,
    data_devices: int,
    unroll: bool,
) -> Callable[..., Any]:
    """(state, batch) -> ((gradient, statistics), (`Forward`, labels)) of the batch.

    Gradient, statistics and outputs of k micro-batches are those of the full batch: the
    loss is a mean over examples and running statistics are linear in the batch's.
    """
    objective = make_objective(config)
    loss_and_grad = jax.value_and_grad(make_loss(network, objective), has_aux=True)
    of_several_views = make_gradient_of_views(network, config, unroll)

    def gradient(state: TrainState, batch: Batch):
        """Views are drawn here, by each example's position in the global batch."""
        key = step_key(config.seed, state.step)

        def of_piece(piece: Batch):
            if not config.views.plain:
                return of_several_views(key, state, piece)
            views, labels = make_views(key, piece, config.augment), piece["label"]
            answers = None
            if objective.change_views:
                views, answers = objective.change_views(key, views, piece["position"])
            (_, (stats, forward)), grads = loss_and_grad(
                state.online_params, state, views, labels, answers
            )
            return (grads, stats), (forward, labels)

        if config.micro_batches == 1:
            return of_piece(batch)
        stacked = _split(batch, config.micro_batches, data_devices)
        return _accumulate(of_piece, stacked, unroll, data_devices)

    return gradient


def _split(tree: Any, pieces: int, devices: int) -> Any:
    """Stacks of micro-batches, [k b ...]: an equal piece of every device's part each,
    so that no example moves to another device.
    """
    return jax.tree.map(
        lambda x: rearrange(x, "(d k b) ... -> k (d b) ...", d=devices, k=pieces), tree
    )


def _accumulate(gradient, stacked: Any, unroll: bool, devices: int):
    """Mean gradient and statistics of micro-batches [k b ...], and their outputs in the
    order of the batch.
    """

    def add(total, piece):
        averaged, outputs = gradient(piece)
        return jax.tree.map(jnp.add, total, averaged), outputs

    pieces = len(jax.tree.leaves(stacked)[0])
    shapes, _ = jax.eval_shape(gradient, jax.tree.map(lambda x: x[0], stacked))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, outputs = jax.lax.scan(add, zeros, stacked, unroll=unroll)
    return (
        jax.tree.map(lambda x: (x / pieces).astype(x.dtype), total),
        jax.tree.map(
            lambda x: rearrange(x, "k (d b) ... -> (d k b) ...", d=devices), outputs
        ),
    )
