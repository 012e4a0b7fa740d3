"""The length of a run, and the schedules of learning rate and tau over it.

P1 is the BYOL paper (arXiv 2006.07733); see its section 3.3.
"""

import math
from typing import Any, Literal

import jax.numpy as jnp
import optax

from byol_bnfree.config import TrainConfig
from byol_bnfree.epochs import whole_steps
from byol_bnfree.errors import InputError
from byol_bnfree.scalars import is_scalar

LONGEST = 2**31 - 1  # steps; the state counts them in int32


def total_steps(config: TrainConfig, num_examples: int) -> int:
    """Return the optimizer steps of a run with its extensions, if it has some."""
    if config.extensions:
        return config.extensions[-1].end
    return first_steps(config, num_examples)


def extended_steps(epochs: float, num_examples: int, batch_size: int) -> int:
    """Return the optimizer steps of a run that --extend makes `epochs` long."""
    steps = whole_steps(epochs, num_examples, batch_size)
    if steps > LONGEST:
        raise InputError(
            f"--extend {epochs:g} of {num_examples} images are {steps:,} steps, and a "
            f"run has at most {LONGEST:,}; give fewer epochs."
        )
    return steps


def first_steps(config: TrainConfig, num_examples: int) -> int:
    """Return the steps before any extension: --steps, or epochs * examples // batch."""
    if config.steps is not None:
        return config.steps
    steps = whole_steps(config.epochs, num_examples, config.batch_size)
    if steps < 1:
        raise InputError(
            f"epochs {config.epochs:g} of {num_examples} images do not fill one batch "
            f"of {config.batch_size}; give more epochs, --steps or a smaller batch."
        )
    if steps > LONGEST:
        raise InputError(
            f"epochs {config.epochs:g} of {num_examples} images are {steps:,} steps, "
            f"but a run has at most {LONGEST:,}; give fewer epochs."
        )
    return steps


def warmup_steps(config: TrainConfig, num_examples: int) -> int:
    """Return the steps of the linear warm-up; `InputError` if they fill the run."""
    epochs = config.optim.warmup_epochs
    steps = whole_steps(epochs, num_examples, config.batch_size)
    total = first_steps(config, num_examples)
    if steps >= total:
        raise InputError(
            f"--optim.warmup-epochs {config.optim.warmup_epochs:g} is {steps} steps, "
            f"but the run has {total}; shorten the warm-up or lengthen the run."
        )
    return steps


def peak_learning_rate(config: TrainConfig) -> float:
    """Return base_lr * batch size / 256 (P1 section 3.3)."""
    return config.base_lr * config.batch_size / 256


def learning_rate_schedule(peak: float, warmup: int, total: int) -> optax.Schedule:
    """Rise linearly from 0 over `warmup` steps, then fall to 0 in a cosine."""
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, total)


def tau_schedule(
    tau_base: float, total: int, shape: Literal["cosine", "constant"] = "cosine"
) -> optax.Schedule:
    """tau_k = 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2 (P1 section 3.3).

    It stays 1 after step K, as in DeepMind's code.

    `constant` keeps tau at tau_base, as P1's Table 5a does in its row with tau 0.
    """
    if shape == "constant":
        return optax.constant_schedule(jnp.float32(tau_base))

    def tau(step):
        known = jnp.minimum(step, total)
        return 1 - (1 - tau_base) * (jnp.cos(jnp.pi * known / total) + 1) / 2

    return tau


def as_schedule(value: Any, name: str, most: float = math.inf) -> optax.Schedule:
    """Return a schedule as it is, or that of a constant from 0 to `most`."""
    if callable(value):
        return value
    if not is_scalar(value, most):
        bounds = "of at least 0" if most == math.inf else f"from 0 to {most:g}"
        raise InputError(
            f"{name} is {value!r}; give a finite number {bounds}, or a function from "
            f"the step to one."
        )
    return optax.constant_schedule(jnp.asarray(value, jnp.float32))
