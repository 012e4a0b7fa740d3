"""The state of a run: the content of a checkpoint, and nothing else."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from byol_bnfree.models.byol import Variables


class TrainState(struct.PyTreeNode):
    """The arrays of a run. Without BatchNorm the statistics are `{}`."""

    step: Any
    """Optimizer steps taken; int32 scalar."""
    online_params: Any
    """Parameters of encoder, projector, predictor and probe; float32."""
    target_params: Any
    """Parameters of encoder and projector; float32."""
    online_stats: Any
    """Running statistics of the online network."""
    target_stats: Any
    """Running statistics of the target network, which are its own."""
    opt_state: Any
    """The optimizer's state, as its `init` returns it."""
    memory: Any = struct.field(default_factory=dict)
    """The objective's memory of earlier batches, as MoCo's queue; {} for most."""


def create_state(
    variables: Variables,
    optimizer: optax.GradientTransformation,
    memory: dict[str, Any] | None = None,
) -> TrainState:
    """Return the state of step 0."""
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
    """Count the trainable scalars of a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
