"""Data-dependent initialization of networks without normalization (P2 section 3)."""

import dataclasses

import jax
from jaxtyping import Array, Float

from byol_bnfree.config import TrainConfig
from byol_bnfree.models.byol import Tree, Variables, create_network, part_norms
from byol_bnfree.models.kernels import EPSILON
from byol_bnfree.models.norm import BN_DECAY


def data_dependent_init(
    config: TrainConfig, variables: Variables, images: Float[Array, "b h w c"]
) -> Variables:
    """Scale and offset of every `none` layer, set from one batch of normalized images.

    The network is run once with BatchNorm where it has no norm; at each place the
    batch's mean m and deviation s give scale / s and bias - scale * m / s, so that
    the network without norm reproduces the normalized one on this batch. (P2 section
    3; batch, epsilon and the target's repetition are our choices.)
    """
    replaced = [part for part, norm in part_norms(config).items() if norm == "none"]
    reference = create_network(
        dataclasses.replace(
            config, **{f"{part}_norm": "bn" for part in replaced}, init="standard"
        ),
        num_classes=None,
        stat_groups=1,
    )
    fresh = reference.init(jax.random.key(0), images)
    _, online = reference.online(
        variables.online_params, fresh.online_stats, images, True
    )
    _, target = reference.target(
        variables.target_params, fresh.target_stats, images, True
    )

    def absorb(params: Tree, stats: Tree) -> Tree:
        parts = {k: stats[k] for k in replaced if k in params}
        return params | {k: _absorb(params[k], parts[k]) for k in parts}

    return variables._replace(
        online_params=absorb(variables.online_params, online),
        target_params=absorb(variables.target_params, target),
    )


def _absorb(params: Tree, stats: Tree) -> Tree:
    """Statistics of one pass, folded into the scale and bias beside them."""
    if "count" not in stats:
        return params | {k: _absorb(params[k], stats[k]) for k in stats}
    # One update from zero leaves (1 - decay) times the batch's own value.
    mean, variance = (stats[k] / (1 - BN_DECAY) for k in ("mean", "var"))
    scale = params["scale"] * jax.lax.rsqrt(variance + EPSILON)
    return {"scale": scale, "bias": params["bias"] - scale * mean}
