"""One training step: gradient, optimizer update, target update, metrics."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.views import Batch
from byol_bnfree.diagnostics.collapse import (
    centered_rank,
    collapse_measures,
    effective_rank,
)
from byol_bnfree.diagnostics.layers import update_ratios
from byol_bnfree.losses import top_k
from byol_bnfree.models.byol import BYOLNetwork
from byol_bnfree.objectives import make_objective
from byol_bnfree.settings.types import check_kind
from byol_bnfree.training.ema import ema_update
from byol_bnfree.training.gradient import make_gradient
from byol_bnfree.training.passes import Forward, check_arrays
from byol_bnfree.training.schedules import as_schedule
from byol_bnfree.training.state import TrainState

Metrics = dict[str, Float[Array, ""]]
UPDATE_RATIOS = "layers/update_ratio"
"""The only metric that is a vector. `update_ratio_names` names its elements."""


class StepOutputs(NamedTuple):
    """What the networks computed in a step, before its update."""

    representation: Float[Array, "b d"]
    """Of the first view, by the online network."""
    projection1: Float[Array, "b k"]
    """Of the first view, by the online network."""
    projection2: Float[Array, "b k"]
    """Of the second view, by the online network."""


class Schedules(NamedTuple):
    """Functions from the step to a value, or numbers for all steps."""

    learning_rate: optax.Schedule | float
    """The rate that a step logs. The optimizer has its own."""
    tau: optax.Schedule | float
    """The target network keeps this share of itself, from 0 to 1."""


def make_train_step(
    network: BYOLNetwork,
    optimizer: optax.GradientTransformation,
    schedules: Schedules,
    config: TrainConfig,
    *,
    data_devices: int = 1,
    unroll: bool | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics, StepOutputs]]:
    """Build the training step as a plain function. The caller jits it with shardings.

    It takes a `TrainState` and a batch. It returns the next state, the metrics, and the
    networks' outputs, from which `collapse_metrics` makes further metrics. A batch is a
    dict of "image" (uint8 or floats in [0, 1], [b h w c]), "label" (int32 [b], 0 to
    num_classes - 1; -1: none) and "position" (int32 [b]). The position in the global
    batch gives each image random views of its own. A third argument `key` replaces
    `jax.random.key(config.seed)`, so that one compiled step serves all seeds.

    A batch has `config.batch_size` images. The step takes other numbers too, but the
    schedules of `build_parts` do not follow them: the rate is base_lr x batch_size /
    256, and the steps of an epoch are those of such batches.

    `network` must have `bn_stat_groups / micro_batches` groups of statistics.
    Optimizer, target and schedules advance once per step, however many micro-batches it
    has.

    `unroll` repeats the code of a micro-batch instead of looping over it. XLA on CPUs
    needs this: its gradient of a convolution is 30 times slower in a loop. None unrolls
    on CPUs only.

    Raises:
      InputError: for arguments of other kinds, for schedules that are neither functions
        nor numbers, for a network of `views` that never pass side by side, and when the
        step gets a batch without one of these keys, with an array of another shape, or
        one that cannot be cut into the micro-batches.
    """
    check_kind(config, TrainConfig, "config", "a TrainConfig, such as TrainConfig()")
    check_kind(network, BYOLNetwork, "network", "a BYOLNetwork, as build_parts returns")
    check_kind(schedules, Schedules, "schedules", "a Schedules, as build_parts returns")
    # MultiSteps has the same methods.
    kinds = optax.GradientTransformation | optax.MultiSteps
    check_kind(optimizer, kinds, "optimizer", "one of optax, as make_optimizer returns")
    rate = as_schedule(schedules.learning_rate, "schedules.learning_rate")
    tau_of = as_schedule(schedules.tau, "schedules.tau", most=1)
    unroll = jax.default_backend() == "cpu" if unroll is None else unroll
    gradient = make_gradient(network, config, data_devices, unroll)
    remember = make_objective(config).remember

    def train_step(
        state: TrainState, batch: Batch, key: Array | None = None
    ) -> tuple[TrainState, Metrics, StepOutputs]:
        """Return the state after one update of all parts, metrics and outputs."""
        check_arrays(batch)
        key = jax.random.key(config.seed) if key is None else key
        averaged, forward = gradient(state, batch, key)
        updates, opt_state = optimizer.update(
            averaged.grads, state.opt_state, state.online_params
        )
        tau = tau_of(state.step)
        metrics = _metrics(forward) | {
            # Schedules count the finished steps.
            "optim/lr": rate(state.step),
            "optim/grad_norm": optax.tree.norm(averaged.grads),
            "optim/update_norm": optax.tree.norm(updates),
            "ema/tau": tau,
        }
        if config.run.layers_every:
            # One vector in the order of `update_ratio_names` needs a single transfer.
            ratios = update_ratios(state.online_params, updates)
            metrics[UPDATE_RATIOS] = jnp.stack([ratios[k] for k in sorted(ratios)])
        # The target follows the online network as it is after its update.
        online_params = optax.apply_updates(state.online_params, updates)
        state = TrainState(
            step=state.step + 1,
            online_params=online_params,
            target_params=ema_update(state.target_params, online_params, tau),
            online_stats=averaged.online_stats,
            target_stats=averaged.target_stats,
            opt_state=opt_state,
            memory=remember(state.memory, forward.kept) if remember else state.memory,
        )
        seen = forward.representation, forward.projection1, forward.projection2
        return state, metrics, StepOutputs(*seen)

    return train_step


def collapse_metrics(outputs: StepOutputs) -> Metrics:
    """Measure whether the representations of a batch collapse.

    Returns "collapse/feature_std", "collapse/positive_cosine",
    "collapse/negative_cosine", "collapse/effective_rank" and
    "collapse/centered_rank". Compile it apart from the step, and call it at the steps
    that you log: the ranks need eigenvalues, which are slow on accelerators.
    """
    # A branch inside the step would make a GPU wait for the host.
    y = outputs.representation
    measures = collapse_measures(*outputs)
    measures |= {"effective_rank": effective_rank(y), "centered_rank": centered_rank(y)}
    return {f"collapse/{name}": value for name, value in measures.items()}


def update_ratio_names(params: Any) -> list[str]:
    """Return the names in metrics.jsonl for the elements of `UPDATE_RATIOS`."""
    names = jax.eval_shape(update_ratios, params, params)
    return [f"update_ratio/{name}" for name in sorted(names)]


def _metrics(forward: Forward) -> Metrics:
    """Return the metrics of a step, measured before its update."""
    lengths = jnp.linalg.norm(forward.projection1, axis=1)
    metrics = {
        "train/loss": jnp.mean(forward.loss),
        "train/projection_norm": jnp.mean(lengths),  # P1 Figure 7
    }
    if forward.logits is not None:
        metrics["probe/loss"] = jnp.mean(forward.probe_loss)
        metrics["probe/top1"] = top_k(forward.logits, forward.labels, 1)
        if forward.logits.shape[1] > 5:  # with five classes or fewer it is always 1
            metrics["probe/top5"] = top_k(forward.logits, forward.labels, 5)
    return metrics
