"""The state of a run: the content of a checkpoint, and nothing else."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from byol_bnfree.models.byol import Variables


class TrainState(struct.PyTreeNode):
    """Arrays only. Statistics are `{}` without BatchNorm, so one step serves all."""

    step: Any
    """Optimizer steps taken; int32 scalar."""
    online_params: Any
    """encoder, projector, predictor, probe."""
    target_params: Any
    """encoder, projector."""
    online_stats: Any
    target_stats: Any
    opt_state: Any
    memory: Any = struct.field(default_factory=dict)
    """What the objective keeps of earlier batches, as MoCo's queue; {} for most."""


def create_state(
    variables: Variables,
    optimizer: optax.GradientTransformation,
    memory: dict[str, Any] | None = None,
) -> TrainState:
    """State of step 0."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        online_params=variables.online_params,
        target_params=variables.target_params,
        online_stats=variables.online_stats,
        target_stats=variables.target_stats,
        opt_state=optimizer.init(variables.online_params),
        memory=memory or {},
    )


def parameter_count(params: Any) -> int:
    """Number of trainable scalars in a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
