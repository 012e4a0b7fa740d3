"""Learning rate, tau and optimizer (P1 section 3.3, DeepMind's optimizers.py)."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from byol_bnfree.config import OptimConfig, TrainConfig
from byol_bnfree.errors import InputError

LONGEST = 2**31 - 1  # steps: the state counts them in int32


def total_steps(config: TrainConfig, num_examples: int) -> int:
    """Optimizer steps of a run: --steps, or epochs * examples // batch."""
    if config.steps is not None:
        return config.steps
    steps = int(config.epochs * num_examples) // config.batch_size
    if steps < 1:
        raise InputError(
            f"epochs {config.epochs:g} of {num_examples} images make no whole batch "
            f"of {config.batch_size}; give more epochs, --steps or a smaller batch."
        )
    if steps > LONGEST:
        raise InputError(
            f"epochs {config.epochs:g} of {num_examples} images are {steps:,} steps, "
            f"and a run has at most {LONGEST:,}; give fewer epochs."
        )
    return steps


def warmup_steps(config: TrainConfig, num_examples: int) -> int:
    """Steps of the linear warm-up; `InputError` if they fill the run."""
    steps = int(config.optim.warmup_epochs * num_examples) // config.batch_size
    total = total_steps(config, num_examples)
    if steps >= total:
        raise InputError(
            f"optim.warmup_epochs {config.optim.warmup_epochs:g} is {steps} steps, and "
            f"the run has {total}; shorten the warm-up or lengthen the run."
        )
    return steps


def peak_learning_rate(config: TrainConfig) -> float:
    """base_lr scaled by batch / 256."""
    return config.base_lr * config.batch_size / 256


def learning_rate_schedule(peak: float, warmup: int, total: int) -> optax.Schedule:
    """Linear from exactly 0 over `warmup` steps, then a cosine to 0 at `total`."""
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, total)


def tau_schedule(
    tau_base: float, total: int, shape: Literal["cosine", "constant"] = "cosine"
) -> optax.Schedule:
    """tau_k = 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2 (P1 section 3.2).

    `constant` is for P1's Table 5a: its row of tau 0 has no ramp.
    """
    if shape == "constant":
        return optax.constant_schedule(jnp.float32(tau_base))

    def tau(step):
        return 1 - (1 - tau_base) * (jnp.cos(jnp.pi * step / total) + 1) / 2

    return tau


def decayed_mask(params):
    """True for kernels, False for biases and norm parameters.

    BYOL leaves the latter out of weight decay and of LARS's adaptation. Decided by
    the name of the parameter and of the layers above it, as DeepMind's code does.
    """

    def is_kernel(path: tuple, _: Any) -> bool:
        names = [str(key.key) for key in path]
        return names[-1] not in ("bias", "scale") and not any(
            "norm" in name for name in names
        )

    return jax.tree_util.tree_map_with_path(is_kernel, params)


def make_optimizer(
    optim: OptimConfig, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """The optimizer chosen by `optim.name` under a learning-rate schedule.

    lars is BYOL's order: decay, trust ratio |w| / |g + wd w|, momentum, and only then
    the learning rate. `optax.lars` applies the rate before the momentum, which is
    another optimizer whenever the rate changes.
    """
    if optim.name == "adamw":
        return optax.adamw(
            schedule,
            b1=optim.momentum,
            weight_decay=optim.weight_decay,
            mask=decayed_mask,
        )
    adapt = (
        optax.scale_by_trust_ratio(trust_coefficient=optim.trust_coefficient)
        if optim.name == "lars"
        else optax.identity()
    )
    return optax.chain(
        optax.add_decayed_weights(optim.weight_decay, decayed_mask),
        optax.masked(adapt, decayed_mask),
        optax.trace(optim.momentum),
        optax.scale_by_learning_rate(schedule),
    )
