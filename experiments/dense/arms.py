"""The arms of the comparison, their order, and their settings."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.dense.settings import DenseSettings
from byol_bnfree.evaluation.dense.tasks import TASKS
from experiments.dense.arguments import NORMS
from experiments.dense.encoders import KINDS, RESCALED

TUNED = 0  # the seed that chooses the rates of all seeds
USUAL, SMALL = 8, 2  # pictures of a batch
IN_SMALL = ("pre-trained", RESCALED)  # encoders that are also fine-tuned with SMALL
FROZEN_NORMS = "frozen norms"  # fine-tuned but for the norms of the encoder
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)  # of segmentation with the usual batch
FURTHER = 3  # rates beyond an end at which the best one is
LOWER = 0.1  # share of these rates for depth and detection, whose losses are steeper
TRIAL = 0.3  # share of the steps of a fit that only chooses a rate
STRIDE = 8  # of the last map: 8 x 8 places on a scene
WIDTH = 32  # channels of a head; the paper's 256 would outweigh this encoder
NARROW: dict[str, dict[str, Any]] = {
    "segmentation": {"width": WIDTH},
    "depth": {},
    "detection": {"tower_width": WIDTH, "tower_depth": 2},
}


class Arm(NamedTuple):
    """One fit of the comparison."""

    seed: int
    task: str
    norm: str
    encoder: str
    tuned: str
    """fine-tuned, with FROZEN_NORMS, or linear on the frozen encoder."""
    batch: int


def arms(seeds: Sequence[int], norms: Sequence[str] = NORMS) -> Iterator[Arm]:
    """Yield all arms of a seed before the next one, the main question first.

    First comes the gain of pre-training in each task, then the batch of 2, also with
    frozen norms, then the linear layer on frozen encoders.
    """
    tuned = [(kind, "fine-tuned", USUAL) for kind in KINDS]
    small, without = (
        [(kind, how, SMALL) for kind in IN_SMALL]
        for how in ("fine-tuned", FROZEN_NORMS)
    )
    # A frozen encoder computes the same, whatever the length of its kernels.
    linear = [(kind, "linear", USUAL) for kind in KINDS if kind != RESCALED]
    for seed, part in itertools.product(seeds, (tuned, small, without, linear)):
        for task, (kind, how, batch), norm in itertools.product(TASKS, part, norms):
            yield Arm(seed, task, norm, kind, how, batch)


def settings_of(arm: Arm, pictures: int, rate: float | None = None) -> DenseSettings:
    """Return the task's settings for an arm that sees this many pictures.

    A batch of 2 takes four times the steps, at a quarter of the rates. A given `rate`
    replaces the choice among several.

    Raises:
      InputError: if the pictures do not fill the batches of a fit that chooses a rate.
    """
    least = math.ceil(1 / TRIAL) * USUAL
    if pictures < least:
        raise InputError(
            f"--pictures is {pictures}, but the shortest fit is a step of {USUAL} "
            f"pictures, and choosing its rate takes {TRIAL:g} of all steps; give "
            f"{least} or more."
        )
    usual = usual_settings(arm)
    frozen = arm.tuned == "linear"
    share = arm.batch / USUAL * (1 if arm.task == "segmentation" else LOWER)
    steps = pictures // arm.batch
    rates = (rate,) if rate else tuple(choice * share for choice in RATES)
    return dataclasses.replace(
        usual,
        steps=steps,
        trial_steps=round(TRIAL * steps),
        warmup_steps=0,
        batch_size=arm.batch,
        rates=rates,
        further_rates=0 if rate else FURTHER,
        scales=(1.0, 1.0),
        stride=STRIDE,
        encoder="frozen" if frozen else "trained",
        norms="frozen" if arm.tuned == FROZEN_NORMS else "fine-tuned",
        head="linear" if frozen else "paper",
        **NARROW[arm.task],
    )


def usual_settings(arm: Arm) -> DenseSettings:
    """Return the defaults of an arm's task."""
    return getattr(EvaluateConfig("unused"), arm.task)
