"""Checks of settings that must agree with each other."""

from collections.abc import Callable
from typing import Any

from byol_bnfree.errors import InputError, flag
from byol_bnfree.settings.norms import part_norms
from byol_bnfree.settings.objective_checks import (
    couples_in_loss,
    norms_in_use,
    uses_predictor,
    validate_objective,
)
from byol_bnfree.settings.view_checks import validate_views


def check_together(config: Any) -> None:
    """Raise `InputError` in one sentence if two settings contradict each other."""
    _check_network(config)
    _check_batch(config)
    _check_optimizer(config)
    _check_rows(config)
    validate_views(config)
    validate_objective(config)
    check_mean_and_std(config.augment)
    _check_processes(config)


def _check_network(config: Any) -> None:
    model = config.model
    compared = uses_predictor(config) and config.objective != "rotation"
    square = compared or model.predictor_start == "identity"
    if square and model.projector.out != model.predictor.out:
        raise InputError(
            f"--model.projector.out {model.projector.out} and --model.predictor.out "
            f"{model.predictor.out} must be equal: the "
            f"{'loss compares them' if compared else 'predictor starts as identity'}."
        )
    scale = model.last_scale_init
    if model.name.endswith("v2") and scale != 1 and config.encoder is None:
        raise InputError(
            f"--model.last-scale-init is {scale:g}, but a block of {model.name} "
            f"ends with a convolution and not with a norm; set it to 1."
        )
    norms, standardized = part_norms(config), model.standardize_conv
    norm = norms["encoder"]
    if model.unit_kernels and not (norm == "gn_ws" and standardized):
        raise InputError(
            f"--model.unit-kernels scales the standardized kernels of gn_ws, but the "
            f"encoder has norm {norm}{'' if standardized else ' with plain kernels'}; "
            f"use --norm=gn_ws with standardized kernels, or remove it."
        )
    if config.init == "data_dependent" and "none" not in norms.values():
        raise InputError(
            "--init data_dependent sets the layers of norm none, but no part of this "
            "network has it; add --norm=none or remove --init."
        )


def _check_batch(config: Any) -> None:
    """Check the batch against its cuts: groups of statistics, and micro-batches."""
    norms = norms_in_use(config).values()
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
    # A micro-batch of whole groups leaves the statistics of every group as they are.
    regrouped = config.bn_stat_groups % config.micro_batches != 0
    if "bn" in norms and regrouped and not couples_in_loss(config):
        cure = f"set --bn-stat-groups to a multiple of {config.micro_batches}"
        if config.objective == "moco_v2":  # which needs statistics of the whole batch
            cure = "set it to 1"
        raise InputError(
            f"--micro-batches {config.micro_batches} would change the batch "
            f"statistics of bn; {cure} or use a norm without them, such as gn_ws."
        )


def _check_optimizer(config: Any) -> None:
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


def _check_rows(config: Any) -> None:
    """Check the rows of metrics.jsonl, and what reads them."""
    every = config.run.layers_every
    if every % config.run.log_every:
        raise InputError(
            f"--run.layers-every {every} is not a multiple of --run.log-every "
            f"{config.run.log_every}; give a multiple, or 0 for no rows of layers."
        )
    if config.run.keep_best and not config.evaluation.knn_in_training:
        raise InputError(
            "--run.keep-best compares kNN accuracies, but this run measures none; "
            "set --evaluation.knn-every-epochs to 1 or more, or remove --run.keep-best."
        )


def check_mean_and_std(augment: Any, called: Callable[[str], str] = flag) -> None:
    """Raise `InputError` unless both have one number for each channel."""
    mean, std = called("augment.mean"), called("augment.std")
    if len(augment.mean) != len(augment.std):
        raise InputError(
            f"{mean} has {len(augment.mean)} numbers and {std} {len(augment.std)}; "
            f"give both one number for each channel."
        )


def _check_processes(config: Any) -> None:
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
