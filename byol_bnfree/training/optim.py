"""The optimizers, as in DeepMind's optimizers.py.

P1 is the BYOL paper (arXiv 2006.07733); see its section 3.3.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers

from byol_bnfree.config import OptimConfig, TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.settings.checks import check_optim
from byol_bnfree.settings.objective_checks import predictor_rate_is_constant
from byol_bnfree.settings.types import check_kind
from byol_bnfree.training.part_rates import (
    decayed_mask,
    names_of,
    rates_by_part,
    scale_by_part,
)
from byol_bnfree.training.schedules import as_schedule, peak_learning_rate

# Coefficients of Muon's quintic Newton-Schulz iteration, which runs five times.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
# Root mean square of Muon's update at rate 1; about AdamW's (arXiv 2502.16982).
MUON_RMS = 0.2
# Layers of flax.linen.MultiHeadDotProductAttention with several output axes.
ATTENTION_INPUTS = ("query", "key", "value")


def constant_predictor_rate(config: TrainConfig) -> float | None:
    """The predictor's own learning rate; None if it has the schedule of the rest."""
    constant = predictor_rate_is_constant(config)
    return peak_learning_rate(config) if constant else None


def make_optimizer(
    optim: OptimConfig,
    schedule: optax.Schedule | float,
    predictor_rate: optax.Schedule | float | None = None,
) -> optax.GradientTransformation:
    """Build the optimizer `optim.name` with a learning-rate schedule.

    - lars has BYOL's order: weight decay, trust ratio |w| / |g + wd w|, momentum, and
      only then the learning rate. `optax.lars` applies the rate before the momentum.
      That is another optimizer whenever the rate changes.
    - sgd is the same without the trust ratio.
    - adamw is `optax.adamw`.
    - muon is `optax.contrib.muon` with Nesterov's momentum. It orthogonalizes the
      momentum of every kernel, seen as a matrix [fan_in, out], so all directions learn
      at the same rate. Updates are Updates are as large as Adam's.. Adam with
      Nesterov's rule (`optax.nadam`) updates all other arrays, without the decay of
      kernels: vectors, scalars and arrays with "embed" in their own name too.

    All of them multiply the weight decay by the learning rate. `bias_lr_scale`,
    `predictor_lr_scale` and `projector_lr_scale` multiply the finished update.
    `predictor_rate` replaces the schedule for the predictor. The names of the two parts
    stand at the first level of the tree: "predictor" (or "small_predictor") and
    "projector", as in {"encoder": ..., "projector": ..., "predictor": ...}.

    The parameters are a tree of any kind: dicts, lists, `FrozenDict`, `nnx.State`, an
    Equinox module of arrays. The names in it decide: "bias" and "scale" are no kernels,
    and neither is any array of a layer with "norm" in its name. All others are kernels,
    such as Flax's "kernel" and the "weight" of PyTorch and Equinox. "norm" and "embed"
    may have capitals.

    Args:
      optim: the name, momentum, decay and factors. Its schedules are not read.
      schedule: maps the number of the step, from 0, to the learning rate; or a number,
        the rate of all steps.
      predictor_rate: the predictor's own rate, as `schedule`; None for that of the
        rest.

    Returns:
      An optimizer. Its `update` needs the parameters as third argument.

    Raises:
      InputError: for a setting that no command line takes, such as a name that is none
        of these, for a schedule that is neither a function nor a number, and for a
        predictor_rate with `lars_clip`. `init` raises it where a part with a factor or
        a rate of its own is not at the first level of the tree.

    References: You et al. 2017 (LARS), https://arxiv.org/abs/1708.03888; Jordan et al.
    2024 (Muon), https://kellerjordan.github.io/posts/muon; Liu et al. 2025 (Muon's
    update size and decay), https://arxiv.org/abs/2502.16982.
    """
    makers = {"lars": _lars, "sgd": _sgd, "adamw": _adamw, "muon": _muon}
    check_kind(optim, OptimConfig, "optim", "an OptimConfig, such as config.optim")
    check_optim(optim)
    schedule = as_schedule(schedule, "schedule")
    if predictor_rate is not None and optim.name == "lars" and optim.lars_clip:
        raise InputError(
            "a predictor_rate was given with lars_clip, whose steps depend on the "
            "learning rate; leave out one of them."
        )
    if predictor_rate is None:
        optimizer = makers[optim.name](optim, schedule)
    else:
        # Every optimizer here multiplies by the rate last, weight decay included. So we
        # can build it with rate 1 and multiply each part by its own.
        predictor_rate = as_schedule(predictor_rate, "predictor_rate")
        unscaled = makers[optim.name](optim, optax.constant_schedule(1.0))
        optimizer = optax.chain(unscaled, rates_by_part(schedule, predictor_rate))
    scales = (optim.bias_lr_scale, optim.predictor_lr_scale, optim.projector_lr_scale)
    if scales == (1, 1, 1):
        return optimizer
    return optax.chain(optimizer, scale_by_part(optim))


def _lars(optim: OptimConfig, schedule: optax.Schedule):
    adapt = (
        _clipped_trust_ratio(optim.trust_coefficient, schedule)
        if optim.lars_clip
        else optax.scale_by_trust_ratio(trust_coefficient=optim.trust_coefficient)
    )
    return _momentum(optim, schedule, optax.masked(adapt, decayed_mask))


def _sgd(optim: OptimConfig, schedule: optax.Schedule):
    return _momentum(optim, schedule, optax.identity())


def _momentum(optim: OptimConfig, schedule, adapt: optax.GradientTransformation):
    return optax.chain(
        *_decay(optim),
        adapt,
        optax.trace(optim.momentum),
        optax.scale_by_learning_rate(schedule),
    )


def _adamw(optim: OptimConfig, schedule: optax.Schedule):
    # The decay comes after Adam's scaling: it is decoupled, as in AdamW.
    return optax.chain(
        optax.scale_by_adam(b1=optim.momentum),
        *_decay(optim),
        optax.scale_by_learning_rate(schedule),
    )


def _muon(optim: OptimConfig, schedule: optax.Schedule):
    return optax.contrib.muon(
        schedule,
        ns_coeffs=(NEWTON_SCHULZ,) * 5,  # optax loops over these; that compiles faster
        beta=optim.momentum,
        nesterov=True,  # of Muon and of its Adam; Optax's default, which may change
        weight_decay=optim.weight_decay,
        adam_weight_decay=optim.bias_weight_decay,
        muon_weight_dimension_numbers=_as_matrices,
        consistent_rms=MUON_RMS,
    )


def _as_matrices(params):
    """Describe every kernel as a matrix [fan_in, out]; None leaves a leaf to Adam.

    A kernel is an array of `decayed_mask` with two axes or more that is no embedding by
    its own name. Its last axis is the output, but the first one of a "weight", which is
    [out, in, ...] in PyTorch and Equinox. In Flax's attention, query, key and value
    have kernels [d, heads, head_dim], of which the last two axes are the output. The
    axis of layers that `nn.scan` or `nn.vmap` stacks looks like an input, so such
    layers are one matrix.
    """

    def matrix(path: tuple, decayed: bool, leaf: Any):
        """Describe one array."""
        *layers, name = names_of(path)
        if not decayed or leaf.ndim < 2 or "embed" in name.lower():
            return None
        axes = tuple(range(leaf.ndim))
        if name == "weight":
            return MuonDimensionNumbers(axes[1:], axes[:1])
        inputs = leaf.ndim - 1
        if leaf.ndim == 3 and layers and layers[-1] in ATTENTION_INPUTS:
            inputs = 1
        return MuonDimensionNumbers(axes[:inputs], axes[inputs:])

    return jax.tree_util.tree_map_with_path(matrix, decayed_mask(params), params)


def _decay(optim: OptimConfig) -> list[optax.GradientTransformation]:
    """Return weight decay of kernels, and of other parameters if it is not zero."""
    decay = [optax.add_decayed_weights(optim.weight_decay, decayed_mask)]
    if optim.bias_weight_decay:
        decay.append(
            optax.add_decayed_weights(
                optim.bias_weight_decay,
                lambda params: jax.tree.map(lambda x: not x, decayed_mask(params)),
            )
        )
    return decay


def _clipped_trust_ratio(
    trust: float, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Return LARS with a bound: ratio times learning rate is at most the learning rate.

    factor = min(trust |w| / (|g| rate), 1), where g includes the weight decay. The
    factor is 1 where w or g is 0. solo-learn calls this `clip_lr`. It divides by
    |g| + |wd w|; we divide by |g + wd w|, as LARS does.
    """

    def factor(update, param, rate):
        size, length = optax.safe_norm(param, 0.0), optax.safe_norm(update, 0.0)
        known = (size > 0) & (length > 0) & (rate > 0)
        ratio = trust * size / jnp.where(known, length * rate, 1.0)
        scaled = jnp.where(known, jnp.minimum(ratio, 1.0), 1.0) * update
        return scaled.astype(update.dtype)  # the rate is float32

    def update(updates, state, params):
        rate = schedule(state.count)
        updates = jax.tree.map(lambda u, p: factor(u, p, rate), updates, params)
        return updates, optax.ScaleByScheduleState(state.count + 1)

    def init(_):
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))

    return optax.GradientTransformation(init, update)
