"""Data-dependent initialization for networks without normalization.

The method is from section 3 of P2, "BYOL works even without batch statistics"
(arXiv 2010.10241).
"""

import dataclasses

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.assembly import create_network
from byol_bnfree.config import TrainConfig
from byol_bnfree.models.batch_norm import corrected
from byol_bnfree.models.byol import BYOLNetwork, Tree, Variables
from byol_bnfree.models.kernels import EPSILON
from byol_bnfree.settings.norms import part_norms
from byol_bnfree.training.part_rates import PREDICTORS


def data_dependent_init(
    config: TrainConfig,
    variables: Variables,
    images: Float[Array, "b h w c"],
    encoder: nn.Module | None = None,
) -> Variables:
    """Set scale and offset of every `none` layer from one batch of images [b h w c].

    The images are normalized. The network runs once with BatchNorm instead of each
    missing norm. The mean m and deviation s of the batch at each norm give its new
    values scale / s and bias - scale * m / s. On this batch the network without norm
    then gives the same outputs as the network with BatchNorm. A part without such
    layers stays as it is: a head of depth 1, or an own encoder that ignores `layers`.
    `encoder` is a module that replaces the configuration's encoder.

    P2 does not say which batch and which epsilon it uses, nor whether the target is
    initialized too. We chose these. The predictor of small views takes the statistics
    of these large views.
    """
    replaced = [part for part, norm in part_norms(config).items() if norm == "none"]
    reference = create_network(
        dataclasses.replace(
            config,
            **{f"{part}_norm": "bn" for part in replaced},
            init="standard",
            micro_batches=1,  # this pass is over the whole batch
        ),
        num_classes=None,
        stat_groups=1,
        encoder=encoder,
    )
    online, target = _statistics(reference, variables, images)
    if "predictor" in replaced:
        replaced.append("small_predictor")

    def absorb(params: Tree, stats: Tree) -> Tree:
        # The target has no predictor.
        parts = [k for k in replaced if k in params and k in stats]
        return params | {k: _absorb(params[k], stats[k]) for k in parts}

    return variables._replace(
        online_params=absorb(variables.online_params, online),
        target_params=absorb(variables.target_params, target),
    )


def _statistics(
    reference: BYOLNetwork, variables: Variables, images: Float[Array, "b h w c"]
) -> tuple[Tree, Tree]:
    """Return the statistics of one pass through the online and the target network."""
    # Only the fresh statistics are used, which are zeros for every key.
    fresh = reference.init(jax.random.key(0), images)
    online = {}
    for predictor in PREDICTORS:
        if predictor in variables.online_params:
            _, seen = reference.online(
                variables.online_params, fresh.online_stats, images, True, predictor
            )
            # The pass did not go through the other predictor.
            online |= {k: v for k, v in seen.items() if k not in PREDICTORS}
            online |= {k: v for k, v in seen.items() if k == predictor}
    _, target = reference.target(
        variables.target_params, fresh.target_stats, images, True
    )
    return online, target


def _absorb(params: Tree, stats: Tree) -> Tree:
    """Fold the statistics of one pass into the scale and bias of the same layer."""
    if "count" not in stats:
        # Statistics of a BatchNorm of another library are arrays, and stay.
        inner = [k for k, v in stats.items() if isinstance(v, dict)]
        return params | {k: _absorb(params[k], stats[k]) for k in inner}
    # After one update the corrected statistics are those of the batch.
    mean, variance = corrected(stats["mean"], stats["var"], stats["count"])
    scale = params["scale"] * jax.lax.rsqrt(variance + EPSILON)
    return {"scale": scale, "bias": params["bias"] - scale * mean}
