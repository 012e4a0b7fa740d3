"""Checks that an objective fits the other settings. They need no data."""

from typing import Any

from byol_bnfree.errors import InputError, flag
from byol_bnfree.settings.names import STANDARDIZED, Norm
from byol_bnfree.settings.norms import part_norms

OWN = ("byol", "infonce", "moco_v2", "barlow_twins")
"""Objectives with their own settings, in a field of the same name."""
WITHOUT_PREDICTOR = ("moco_v2", "barlow_twins")


def couples_in_loss(config: Any) -> str | None:
    """Say why the loss of one example depends on others of its batch; None if not."""
    byol, infonce = config.byol, config.infonce
    match config.objective:
        case "byol" if byol.loss_normalization == "batchnorm":
            return "the statistics of --byol.loss-normalization batchnorm"
        case "byol" if byol.predictor == "closed_form":
            return "the fit of --byol.predictor closed_form"
        case "infonce" if infonce.beta > 0:
            return "the negatives of --objective infonce"
        case "barlow_twins":
            return "the correlations of --objective barlow_twins"
    return None


def uses_predictor(config: Any) -> bool:
    """Return True if the loss uses the network's predictor."""
    match config.objective:
        case "byol":
            return config.byol.predictor == "network"
        case "infonce":
            return config.infonce.predictor
    return config.objective not in WITHOUT_PREDICTOR


def predictor_rate_is_constant(config: Any) -> bool:
    """Return True if the predictor's learning rate stays at the peak of the rest.

    Without a choice, only SimSiam's does.
    """
    chosen = config.optim.predictor_schedule
    return chosen == "constant" or chosen is None and config.objective == "simsiam"


def norms_in_use(config: Any) -> dict[str, Norm]:
    """Return the norms of the parts that the loss uses and that have a norm.

    A head of one dense layer has none.
    """
    model, norms = config.model, part_norms(config)
    if model.projector.depth == 1:
        del norms["projector"]
    if model.predictor.depth == 1 or not uses_predictor(config):
        del norms["predictor"]
    return norms


def uses_target_network(config: Any) -> bool:
    """Return True if the loss uses the target network."""
    if config.objective == "infonce":
        return config.infonce.target == "moving_average"
    return config.objective in ("byol", "moco_v2")


def validate_objective(config: Any) -> None:
    """Raise `InputError` if settings conflict."""
    _refuse_settings_of_others(config)
    _refuse_cut_batches(config)
    _validate_queue(config)
    _validate_predictor(config)
    if config.objective == "rotation":
        _refuse_other_turns(config)


def _refuse_settings_of_others(config: Any) -> None:
    for name in OWN:
        own = getattr(config, name)
        usual = type(own)()
        if name == config.objective or own == usual:
            continue
        field, value = next(
            (k, v) for k, v in vars(own).items() if v != getattr(usual, k)
        )
        raise InputError(
            f"{flag(f'{name}.{field}')} {value} belongs to --objective {name}, but "
            f"this run has {config.objective}; remove one of them."
        )


def _refuse_cut_batches(config: Any) -> None:
    why = couples_in_loss(config)
    if config.micro_batches > 1 and why:
        raise InputError(
            f"--micro-batches {config.micro_batches} would change {why}, which "
            f"must come from the whole batch; set it to 1."
        )
    if config.batch_size < 2 and why:
        raise InputError(
            f"--batch-size {config.batch_size} is too small for {why}; give 2 or more."
        )


def _validate_queue(config: Any) -> None:
    queue, new = config.moco_v2.queue, 2 * config.batch_size
    if config.objective == "moco_v2" and queue % new:
        raise InputError(
            f"--moco-v2.queue {queue} must be a multiple of {new}, the keys that a "
            f"batch of {config.batch_size} adds; give a multiple, such as "
            f"{max(queue // new, 1) * new}."
        )
    if config.objective == "moco_v2" and config.bn_stat_groups > 1:
        raise InputError(
            f"--bn-stat-groups {config.bn_stat_groups} would give a query and its own "
            f"key the statistics of their group, by which --objective moco_v2 could "
            f"tell the key from the queue; set it to 1."
        )


def _validate_predictor(config: Any) -> None:
    optim, predictor = config.optim, config.model.predictor
    own_rate = optim.predictor_lr_scale != 1 or optim.predictor_schedule == "constant"
    if own_rate and not uses_predictor(config):
        raise InputError(
            f"--objective {config.objective} has no predictor here, so its learning "
            f"rate has no effect; remove --optim.predictor-lr-scale and "
            f"--optim.predictor-schedule."
        )
    if predictor_rate_is_constant(config) and optim.lars_clip:
        raise InputError(
            "--optim.lars-clip compares with the learning rate of the schedule, but "
            "the predictor's rate is constant here; remove it."
        )
    if config.model.predictor_start == "identity":
        _validate_identity(config, predictor)
    few = config.batch_size < 2 * config.model.projector.out
    if config.byol.predictor == "closed_form" and few:
        raise InputError(
            f"--byol.predictor closed_form fits {config.model.projector.out} features "
            f"to {config.batch_size} images, which are too few; set --batch-size to at "
            f"least twice --model.projector.out."
        )


def _validate_identity(config: Any, predictor: Any) -> None:
    standardized = part_norms(config)["predictor"] in STANDARDIZED
    standardized &= config.model.standardize_dense and 1 not in predictor.plain_dense
    if predictor.depth != 1:
        raise InputError(
            f"--model.predictor-start identity needs a linear predictor, but this one "
            f"has {predictor.depth} layers; set --model.predictor.depth=1."
        )
    if standardized:
        raise InputError(
            "--model.predictor-start identity needs a kernel that is not standardized; "
            "add --model.predictor.plain-dense=1."
        )
    if config.objective == "rotation":
        raise InputError(
            "--model.predictor-start identity needs a predictor as wide as a "
            "projection, but that of --objective rotation has four outputs; remove "
            "one of them."
        )


def _refuse_other_turns(config: Any) -> None:
    for view in ("view1", "view2"):
        for field in ("vertical_flip", "quarter_turn"):
            value = getattr(getattr(config.augment, view), field)
            if value > 0:
                raise InputError(
                    f"--augment.{view}.{field.replace('_', '-')} {value} turns "
                    f"pictures, but --objective rotation predicts their turns; set it "
                    f"to 0."
                )
