"""`--extend` makes a finished run longer, with its own schedules.

The state continues with the optimizer's moments. The learning rate of an extension is a
cosine from `extend_base_lr` to 0, without warm-up. tau follows the schedule of a run
that had the full length from its start.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import optax

from byol_bnfree.config import Extension, TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.files import RESTORE, expanded, read_json, write_json
from byol_bnfree.saved_config import config_from_dict
from byol_bnfree.settings.objective_checks import (
    predictor_rate_is_constant,
    uses_predictor,
)
from byol_bnfree.settings.types import is_count
from byol_bnfree.training.optim import constant_predictor_rate
from byol_bnfree.training.restore import committed_steps
from byol_bnfree.training.schedules import (
    extended_steps,
    first_steps,
    learning_rate_schedule,
    peak_learning_rate,
    tau_schedule,
    warmup_steps,
)
from byol_bnfree.training.step import Schedules

SETTINGS = frozenset({"extend", "extend_base_lr", "extensions"})


def schedules_of(config: TrainConfig, num_examples: int) -> Schedules:
    """Return the schedules of learning rate and tau for a run and its extensions."""
    optim, total = config.optim, first_steps(config, num_examples)
    rate = learning_rate_schedule(
        peak_learning_rate(config), warmup_steps(config, num_examples), total
    )
    tau = tau_schedule(optim.tau_base, total, optim.tau_schedule)
    for part in config.extensions:
        longer = tau_schedule(optim.tau_base, part.end, optim.tau_schedule)
        rate = _from(part.start, rate, _annealing(config, part))
        tau = _from(part.start, tau, longer)
    return Schedules(rate, tau)


def predictor_rate_of(config: TrainConfig) -> optax.Schedule | None:
    """Return the predictor's own rate; None if it has the schedule of the rest.

    It is constant, and each extension begins it anew at the peak of its own rate.
    """
    constant = constant_predictor_rate(config)
    if constant is None:
        return None
    rate = optax.constant_schedule(constant)
    for part in config.extensions:
        rate = _from(part.start, rate, optax.constant_schedule(_peak(config, part)))
    return rate


def _peak(config: TrainConfig, part: Extension) -> float:
    return peak_learning_rate(dataclasses.replace(config, base_lr=part.base_lr))


def _annealing(config: TrainConfig, part: Extension) -> optax.Schedule:
    cosine = optax.cosine_decay_schedule(_peak(config, part), part.end - part.start)
    return lambda step: cosine(jnp.maximum(step - part.start, 0))


def _from(start: int, before: optax.Schedule, after: optax.Schedule) -> optax.Schedule:
    return lambda step: jnp.where(step < start, before(step), after(step))


def resolve_extension(config: TrainConfig, num_examples: int) -> TrainConfig:
    """Fill in the steps and the rate of --extend from the run's folder.

    It only reads. Without --extend it returns the configuration unchanged.

    Raises:
      InputError: if there is no finished run to extend, or it is long enough already.
    """
    if config.extend is None:
        return config
    if config.workdir is None:
        raise InputError("--extend continues a finished run; name its --workdir.")
    folder = expanded(config.workdir)
    saved = read_json(folder / "config.json", RESTORE)
    if saved is None or not committed_steps(folder / "checkpoints"):
        raise InputError(
            f"{folder} holds no run with a checkpoint, but --extend continues a "
            f"finished run; give its --workdir, or train without --extend."
        )
    before = config_from_dict(TrainConfig, saved)
    past = before.extensions
    if past and before.extend == config.extend:  # that extension, perhaps resumed
        rate = config.extend_base_lr or past[-1].base_lr
        return dataclasses.replace(config, extend_base_lr=rate, extensions=past)
    done = steps_of_summary(folder)
    if done < (past[-1].end if past else 1):
        raise InputError(
            f"{folder} holds a run that is not finished, but --extend continues a "
            f"finished run; finish it first, with the command that began it."
        )
    end = extended_steps(config.extend, num_examples, config.batch_size)
    if end <= done:
        raise InputError(
            f"--extend {config.extend:g} makes a run of {end:,} steps in all, and "
            f"{folder} has {done:,} already; give more epochs."
        )
    rate = config.extend_base_lr or _rate_of_a_longer_run(
        config, num_examples, done, end
    )
    parts = (*past, Extension(done, end, rate))
    return dataclasses.replace(config, extend_base_lr=rate, extensions=parts)


def steps_of_summary(workdir: Path) -> int:
    """Return the steps of a finished run; 0 for another, which has no summary yet.

    Raises:
      InputError: if the summary is damaged.
    """
    summary = read_json(workdir / "summary.json")
    if summary is None:
        return 0
    if not is_count(steps := summary.get("steps")):
        raise InputError(
            f"{workdir / 'summary.json'} has no number of steps; restore or delete it."
        )
    return steps


def _rate_of_a_longer_run(
    config: TrainConfig, num_examples: int, step: int, total: int
) -> float:
    """Return base_lr times the value at `step` of a cosine over `total` steps."""
    warmup = warmup_steps(config, num_examples)
    share = (step - warmup) / (total - warmup)
    return config.base_lr * (1 + math.cos(math.pi * share)) / 2


def begins_extension(config: TrainConfig, saved: dict[str, Any] | None) -> bool:
    """Return True if the run with config.json `saved` gets a new extension."""
    return len(config.extensions) > len((saved or {}).get("extensions", ()))


def keep_what_was(workdir: Path, config: TrainConfig) -> None:
    """Copy the files that an extension replaces; name the copies by its first step."""
    for name in ("config", "summary"):
        content = read_json(workdir / f"{name}.json")
        write_json(workdir / f"{name}.{config.extensions[-1].start}.json", content)


def extension_words(config: TrainConfig, num_examples: int) -> str:
    """Describe the newest extension, for the first lines of a run."""
    part, tau = config.extensions[-1], schedules_of(config, num_examples).tau
    peak, own = _peak(config, part), ""
    if uses_predictor(config) and predictor_rate_is_constant(config):
        own = f", predictor constant at {peak * config.optim.predictor_lr_scale:.4g}"
    first, last = (float(tau(step)) for step in (part.start, part.end))
    to_last = f" to {last:.4g}" if last != first else ""
    return (
        f"steps {part.start} to {part.end}: learning rate {part.base_lr:.4g} x "
        f"{config.batch_size} / 256 = {peak:.4g} to 0 on a cosine, without warm-up"
        f"{own}; tau {first:.4g}{to_last}"
    )
