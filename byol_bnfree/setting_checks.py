"""Checks of a configuration that need neither data nor devices."""

import math
from typing import Any

from byol_bnfree.errors import InputError, flag
from byol_bnfree.objective_checks import OWN, validate_objective
from byol_bnfree.setting_types import MOST_CHANNELS, check_types, height_and_width
from byol_bnfree.view_checks import validate_views

MOST_EPOCHS = 1e9
MOST_WORKERS = 512  # processes, which all start at once
LEAST_STD, LEAST_SIGMA = 1e-6, 1e-3  # smaller ones, or their squares, are 0 in float32
LEAST_AREA, ASPECT_LIMIT = 1e-6, 1e3
LEAST_WHITE = 1e-6


def validate(config: Any) -> None:
    """Run all checks that need neither data nor devices. Raise `InputError`."""
    check_types(config)
    positive = (
        "batch_size micro_batches bn_stat_groups epochs base_lr model.width "
        "model.groups model.min_group_channels model.projector.hidden "
        "model.projector.out model.predictor.hidden model.predictor.out "
        "optim.trust_coefficient data.in_memory_gib infonce.alpha moco_v2.queue "
        "moco_v2.temperature barlow_twins.redundancy "
        "data.shapes_train data.shapes_test evaluation.knn_k "
        "evaluation.knn_temperature evaluation.max_train evaluation.max_test "
        "evaluation.batch_size data.max_pixels "
        "run.log_every run.checkpoint_seconds run.keep run.model_devices "
        "run.join_seconds"
    )
    for name in positive.split():
        _require(config, name, lambda x: x > 0, "a positive number")
    not_negative = (
        "seed optim.weight_decay optim.bias_weight_decay optim.bias_lr_scale "
        "optim.warmup_epochs optim.predictor_lr_scale optim.projector_lr_scale "
        "infonce.beta "
        "run.checkpoint_steps run.layers_every"
    )
    for name in not_negative.split():
        _require(config, name, lambda x: x >= 0, "zero or more")
    _require(config, "optim.momentum", lambda x: 0 <= x < 1, "from 0 to below 1")
    _require(config, "optim.tau_base", lambda x: 0 <= x <= 1, "between 0 and 1")
    _require(
        config,
        "data.workers",
        lambda x: x is None or 0 <= x <= MOST_WORKERS,
        f"between 0 and {MOST_WORKERS}, or none",
    )
    _require(
        config,
        "augment.std",
        lambda x: bool(x) and min(x) >= LEAST_STD,
        f"numbers of at least {LEAST_STD:g}",
    )
    _require(
        config,
        "evaluation.knn_every_epochs",
        lambda x: x is None or 0 <= x <= MOST_EPOCHS,
        f"from 0 to {MOST_EPOCHS:g}, or none",
    )
    for name in ("epochs", "extend", "optim.warmup_epochs"):
        few = f"at most {MOST_EPOCHS:g}"
        _require(config, name, lambda x: x is None or x <= MOST_EPOCHS, few)
    _require(
        config,
        "data.white",
        lambda x: x is None or x >= LEAST_WHITE,
        f"a number of at least {LEAST_WHITE:g}",
    )
    optional = "steps extend extend_base_lr model.stem_channels num_processes"
    for name in optional.split():
        _require(config, name, lambda x: x is None or x > 0, "a positive number")
    _require(
        config,
        "data.image_size",
        lambda x: x is None or min(height_and_width(x)) > 0,
        "a positive number, or two: HEIGHT WIDTH",
    )
    _require(
        config,
        "data.channels",
        lambda x: x is None or 1 <= x <= MOST_CHANNELS,
        f"from 1 to {MOST_CHANNELS}",
    )
    for name in ("augment.mean", "augment.std"):
        _require(
            config,
            name,
            lambda x: 1 <= len(x) <= MOST_CHANNELS,
            f"1 to {MOST_CHANNELS} numbers, one for each channel",
        )
    for name in ("model.projector.depth", "model.predictor.depth"):
        _require(config, name, lambda x: x in (1, 2, 3), "1, 2 or 3")
    for name in ("model.projector", "model.predictor"):
        depth = getattr(config.model, name.removeprefix("model.")).depth
        _require(
            config,
            f"{name}.plain_dense",
            lambda x, depth=depth: all(1 <= index <= depth for index in x),
            f"numbers of dense layers, from 1 to {depth}",
        )
    for view in ("augment.view1", "augment.view2"):
        _validate_view(config, view)
    _validate_together(config)


def _validate_view(config: Any, view: str) -> None:
    chances = "flip vertical_flip quarter_turn jitter grayscale blur solarize"
    for name in chances.split():
        _require(config, f"{view}.{name}", lambda x: 0 <= x <= 1, "a probability")
    for name in ("brightness", "contrast", "saturation", "hue"):
        _require(config, f"{view}.{name}", lambda x: 0 <= x <= 1, "between 0 and 1")
    ranges = {
        "crop_area": (LEAST_AREA, 1),
        "crop_aspect": (1 / ASPECT_LIMIT, ASPECT_LIMIT),
        "blur_sigma": (LEAST_SIGMA, math.inf),
    }
    for name, (least, most) in ranges.items():
        _require(
            config,
            f"{view}.{name}",
            lambda x, a=least, b=most: a <= x[0] <= x[1] <= b,
            f"a range LOW HIGH with LOW <= HIGH, from {least:g} to {most:g}",
        )


def _validate_together(config: Any) -> None:
    """Check fields that must agree with each other."""
    norms = {
        config.encoder_norm or config.norm,
        config.projector_norm or config.norm,
        config.predictor_norm or config.norm,
    }
    if config.model.projector.out != config.model.predictor.out:
        raise InputError(
            f"--model.projector.out {config.model.projector.out} and "
            f"--model.predictor.out {config.model.predictor.out} must be equal: the "
            f"loss compares them."
        )
    if config.init == "data_dependent" and "none" not in norms:
        raise InputError(
            "--init data_dependent sets the layers of norm none, but no part of this "
            "network has it; add --norm=none or remove --init."
        )
    if config.bn_stat_groups > 1 and "bn" not in norms:
        raise InputError(
            f"--bn-stat-groups {config.bn_stat_groups} needs a part with norm bn; "
            f"remove it: the other norms use no batch statistics."
        )
    if "bn" in norms and config.batch_size < 2 * config.bn_stat_groups:
        raise InputError(
            f"--batch-size {config.batch_size} with --bn-stat-groups "
            f"{config.bn_stat_groups} normalizes each image alone, which removes all "
            f"information in the heads; give bn two or more images per group."
        )
    if config.batch_size % config.bn_stat_groups:
        raise InputError(
            f"--batch-size {config.batch_size} is not divisible by --bn-stat-groups "
            f"{config.bn_stat_groups}; choose a divisor of the batch."
        )
    if config.batch_size % config.micro_batches:
        raise InputError(
            f"--batch-size {config.batch_size} is not divisible by --micro-batches "
            f"{config.micro_batches}; choose a divisor of the batch."
        )
    regrouped = config.bn_stat_groups % config.micro_batches != 0
    if "bn" in norms and regrouped:
        raise InputError(
            f"--micro-batches {config.micro_batches} would change the batch "
            f"statistics of bn; set --bn-stat-groups to a multiple of "
            f"{config.micro_batches} or use a norm without them, such as gn_ws."
        )
    every = config.run.layers_every
    if every % config.run.log_every:
        raise InputError(
            f"--run.layers-every {every} is not a multiple of --run.log-every "
            f"{config.run.log_every}; give a multiple, or 0 for no rows of layers."
        )
    if config.optim.lars_clip and config.optim.name != "lars":
        raise InputError(
            f"--optim.lars-clip belongs to --optim.name lars, but this run has "
            f"{config.optim.name}; remove one of them."
        )
    if config.extend_base_lr is not None and config.extend is None:
        raise InputError(
            "--extend-base-lr is the rate of an extension, but there is none; add "
            "--extend=EPOCHS, or give --base-lr."
        )
    evaluation = config.evaluation
    never = evaluation.skip or evaluation.knn_every_epochs == 0
    if config.run.keep_best and never:
        raise InputError(
            "--run.keep-best compares kNN accuracies, but this run has none; remove "
            "--evaluation.skip, and --evaluation.knn-every-epochs=0."
        )
    validate_views(config)
    validate_objective(config, {name: getattr(type(config), name) for name in OWN})
    if len(config.augment.mean) != len(config.augment.std):
        raise InputError(
            f"--augment.mean has {len(config.augment.mean)} numbers and --augment.std "
            f"{len(config.augment.std)}; give both one for each channel."
        )
    _validate_processes(config)


def _validate_processes(config: Any) -> None:
    count, index = config.num_processes, config.process_id
    alone = (config.coordinator, count, index)
    given = [x is not None for x in alone]
    if any(given[1:]) and not all(given):
        raise InputError(
            "--coordinator, --num-processes and --process-id go together; give all "
            "three, or omit --num-processes and --process-id under a launcher."
        )
    host, _, port = (config.coordinator or "host:1").rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise InputError(
            f"--coordinator is {config.coordinator!r}; it must be HOST:PORT, with a "
            f"port from 1 to 65535."
        )
    if count is not None and not 0 <= index < count:
        raise InputError(
            f"--process-id is {index} of --num-processes {count}; it must be from 0 to "
            f"{count - 1}, and differ between processes."
        )


def _require(config: Any, name: str, holds, allowed: str) -> None:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    if not holds(value):
        raise InputError(f"{flag(name)} is {value}; it must be {allowed}.")
