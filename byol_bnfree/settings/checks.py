"""Checks of a configuration that need neither data nor devices."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from byol_bnfree.errors import InputError, flag
from byol_bnfree.settings.joint_checks import check_mean_and_std, check_together
from byol_bnfree.settings.types import (
    MOST_CHANNELS,
    check_kind,
    check_types,
    height_and_width,
)
from byol_bnfree.settings.views import AugmentConfig

MOST_EPOCHS = 1e9  # catches infinity and slips
MOST_WORKERS = 512  # processes, which all start at once
LEAST_STD, LEAST_SIGMA = 1e-6, 1e-3  # smaller ones, or their squares, are 0 in float32
LEAST_AREA, ASPECT_LIMIT = 1e-6, 1e3  # of crops: sides stay finite and above 0
LEAST_WHITE = 1e-6  # pixels are divided by it
ROUNDED_TO_1 = 1 - 2**-25  # the least number that float32 rounds to 1


MOST_WIDTH = 1000  # times the usual channels
LONGEST_JOIN = 1e6  # seconds; JAX counts them in few bits
LEAST_TEMPERATURE = 1e-6  # cosines are divided by it in float32


class Rule(NamedTuple):
    """The values that some fields may have."""

    names: str
    """Dotted names of fields, with spaces between."""
    holds: Callable[[Any], bool]
    allowed: str
    """The condition in words, after "must be"."""


def _or_none(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda x: x is None or holds(x)


def _between(least: float, most: float) -> Callable[[Any], bool]:
    return lambda x: least <= x <= most


RULES = (
    Rule(
        "batch_size micro_batches bn_stat_groups epochs base_lr model.width "
        "model.groups model.min_group_channels model.projector.hidden "
        "model.projector.out model.predictor.hidden model.predictor.out "
        "optim.trust_coefficient infonce.alpha moco_v2.queue moco_v2.temperature "
        "barlow_twins.redundancy data.shapes_train "
        "data.shapes_test data.max_pixels evaluation.knn_k "
        "evaluation.knn_temperature evaluation.max_train evaluation.max_test "
        "evaluation.batch_size run.log_every run.checkpoint_seconds run.keep "
        "run.model_devices run.join_seconds",
        lambda x: x > 0,
        "a positive number",
    ),
    Rule(
        "steps extend extend_base_lr model.stem_channels num_processes",
        _or_none(lambda x: x > 0),
        "a positive number",
    ),
    Rule(
        "seed optim.weight_decay optim.bias_weight_decay optim.bias_lr_scale "
        "optim.warmup_epochs optim.predictor_lr_scale optim.projector_lr_scale "
        "infonce.beta data.in_memory_gib run.checkpoint_steps run.layers_every",
        lambda x: x >= 0,
        "zero or more",
    ),
    Rule(
        "optim.momentum",
        lambda x: 0 <= x < ROUNDED_TO_1,
        "from 0 to below 1, also when float32 rounds it",
    ),
    Rule(
        "optim.tau_base",
        lambda x: 0 <= x < ROUNDED_TO_1 or x == 1,
        "between 0 and 1, and 1 itself if float32 rounds it to 1",
    ),
    Rule(
        "own_code",
        lambda x: all(len(text.split()) == 2 for text in x),
        "checksums of files, as a run writes them",
    ),
    Rule(
        "epochs extend optim.warmup_epochs",
        _or_none(lambda x: x <= MOST_EPOCHS),
        f"at most {MOST_EPOCHS:g}",
    ),
    Rule(
        "model.width",
        lambda x: x <= MOST_WIDTH,
        f"at most {MOST_WIDTH}",
    ),
    Rule(
        "run.join_seconds",
        lambda x: x <= LONGEST_JOIN,
        f"at most {LONGEST_JOIN:g}",
    ),
    Rule(
        "infonce.alpha moco_v2.temperature evaluation.knn_temperature",
        lambda x: x >= LEAST_TEMPERATURE,
        f"at least {LEAST_TEMPERATURE:g}",
    ),
    Rule(
        "evaluation.knn_every_epochs",
        _or_none(_between(0, MOST_EPOCHS)),
        f"from 0 to {MOST_EPOCHS:g}, or none",
    ),
    Rule(
        "data.workers",
        _or_none(_between(0, MOST_WORKERS)),
        f"between 0 and {MOST_WORKERS}, or none",
    ),
    Rule(
        "data.white",
        _or_none(lambda x: x >= LEAST_WHITE),
        f"a number of at least {LEAST_WHITE:g}",
    ),
    Rule(
        "data.image_size",
        _or_none(lambda x: min(height_and_width(x)) > 0),
        "a positive number, or two: HEIGHT WIDTH",
    ),
    Rule(
        "data.channels",
        _or_none(_between(1, MOST_CHANNELS)),
        f"from 1 to {MOST_CHANNELS}",
    ),
    Rule(
        "augment.mean augment.std",
        lambda x: 1 <= len(x) <= MOST_CHANNELS,
        f"1 to {MOST_CHANNELS} numbers, one for each channel",
    ),
    Rule(
        "augment.std",
        lambda x: min(x) >= LEAST_STD,
        f"numbers of at least {LEAST_STD:g}",
    ),
    Rule(
        "model.projector.depth model.predictor.depth",
        lambda x: x in (1, 2, 3),
        "1, 2 or 3",
    ),
)
OF_VIEWS = (
    Rule(
        "flip vertical_flip quarter_turn jitter grayscale blur solarize",
        _between(0, 1),
        "a probability",
    ),
    Rule("brightness contrast saturation hue", _between(0, 1), "between 0 and 1"),
)
RANGES = {
    "crop_area": (LEAST_AREA, 1),
    "crop_aspect": (1 / ASPECT_LIMIT, ASPECT_LIMIT),
    "blur_sigma": (LEAST_SIGMA, math.inf),
}
"""Fields of a view with two values, LOW and HIGH: the least and the most."""


def validate(config: Any) -> None:
    """Run all checks that need neither data nor devices. Raise `InputError`."""
    module = "FILE:FUNCTION, and a module to train(config, encoder=module)"
    check_kind(config.encoder, str | None, "config.encoder", module)
    _check_function(config.augment)
    check_types(config)
    for rule in RULES:
        _check(config, rule)
    for head in ("projector", "predictor"):
        _check(config, _plain_dense(config, head))
    _check_views(config.augment, flag)
    check_together(config)


def check_network(model: Any) -> None:
    """Check the settings of a `ModelConfig` that a program gave one by one.

    Raise `InputError` with their plain names, as arguments have them.
    """
    _check_part(model, "model.", str)


def check_optim(optim: Any) -> None:
    """Check an `OptimConfig` that a program gave. Raise `InputError`."""
    _check_part(optim, "optim.", "optim.{}".format)


def check_augment(augment: Any) -> None:
    """Check an `AugmentConfig` that a program gave. Raise `InputError`."""
    wanted = "an AugmentConfig, such as config.augment"
    check_kind(augment, AugmentConfig, "augment", wanted)
    _check_function(augment)
    _check_part(augment, "augment.", "augment.{}".format)
    _check_views(augment, str)
    check_mean_and_std(augment, str)


def _check_part(part: Any, prefix: str, called: Callable[[str], str]) -> None:
    check_types(part, called=called)
    for rule in RULES:
        names = [name for name in rule.names.split() if name.startswith(prefix)]
        own = " ".join(name.removeprefix(prefix) for name in names)
        _check(part, rule._replace(names=own), called=called)


def _check_function(augment: Any) -> None:
    function = getattr(augment, "function", None)
    check_kind(function, str | None, "augment.function", "FILE:FUNCTION, or None")


def _check_views(augment: Any, called: Callable[[str], str]) -> None:
    for view in ("view1", "view2"):
        for rule in (*OF_VIEWS, *_ranges()):
            _check(augment, rule, f"{view}.", lambda name: called(f"augment.{name}"))


def _plain_dense(config: Any, head: str) -> Rule:
    depth = getattr(config.model, head).depth
    return Rule(
        f"model.{head}.plain_dense",
        lambda x: all(1 <= index <= depth for index in x),
        f"numbers of dense layers, from 1 to {depth}",
    )


def _ranges() -> list[Rule]:
    return [
        Rule(
            name,
            lambda x, a=least, b=most: a <= x[0] <= x[1] <= b,
            f"a range LOW HIGH with LOW <= HIGH, from {least:g} to {most:g}",
        )
        for name, (least, most) in RANGES.items()
    ]


def _check(
    config: Any, rule: Rule, prefix: str = "", called: Callable[[str], str] = flag
) -> None:
    for name in rule.names.split():
        value: Any = config
        for part in f"{prefix}{name}".split("."):
            value = getattr(value, part)
        if not rule.holds(value):
            raise InputError(
                f"{called(prefix + name)} is {value}; it must be {rule.allowed}."
            )
