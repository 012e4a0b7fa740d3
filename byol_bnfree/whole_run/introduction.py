"""The lines that a run prints before its first step."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from byol_bnfree.assembly import encoder_name
from byol_bnfree.config import OptimConfig, TrainConfig
from byol_bnfree.data.view_settings import small_side
from byol_bnfree.machine.precision import resolve_dtype
from byol_bnfree.settings.norms import part_norms
from byol_bnfree.settings.objective_checks import (
    predictor_rate_is_constant,
    uses_predictor,
    uses_target_network,
)
from byol_bnfree.training.distributed import labelled
from byol_bnfree.training.extension import extension_words
from byol_bnfree.training.mesh import bytes_of_a_device, left_whole, splits_state
from byol_bnfree.training.optim import constant_predictor_rate
from byol_bnfree.training.program import Program
from byol_bnfree.training.schedules import peak_learning_rate
from byol_bnfree.training.state import parameter_count
from byol_bnfree.whole_run.inputs import Data
from byol_bnfree.whole_run.without_effect import without_effect

NAMED = 4
"""Number of arrays named in a line. environment.json names all of them."""


def objective_words(config: TrainConfig) -> str:
    """Describe the objective, its settings, and the unused parts of the network."""
    own = getattr(config, config.objective, None)
    details = [f"{k} {v}" for k, v in vars(own).items()] if own else []
    used = {
        "predictor": uses_predictor(config),
        "target network": uses_target_network(config),
    }
    details += [
        f"the {part} is not used" for part, is_used in used.items() if not is_used
    ]
    return f"{config.objective}: {', '.join(details)}" if details else config.objective


def introduce(
    program: Program, data: Data, workdir: Path, say: Callable[[str], None]
) -> None:
    """Describe the run in a few lines, before the first step compiles."""
    for label, text in _lines(program, data, workdir):
        say(labelled(label, text))


def _lines(program: Program, data: Data, workdir: Path) -> Iterator[tuple[str, object]]:
    config, train, test = program.config, data.train, data.test
    # In a folder without splits both sources list the same files.
    skipped = len({file for source in data.sources for file in source.skipped})
    parameters = parameter_count(program.abstract_state.online_params)
    yield "run", workdir
    yield (
        "data",
        f"{train.name}: {len(train)} images of "
        f"{'x'.join(map(str, train.image_shape))}"
        + (f", {len(test)} for tests" if test else "")
        + (f", {skipped} bad ones skipped" if skipped else ""),
    )
    if (size := data.description["size"]) != "generated":
        yield "size", size
    if note := crowded(config.batch_size, len(train)):
        yield "note", note
    for note in without_effect(config, jax.default_backend()):
        yield "note", note
    yield (
        "network",
        f"{encoder_name(config)}"
        + (f" width {config.model.width:g}, " if config.encoder is None else ", ")
        + ", ".join(f"{part} {norm}" for part, norm in part_norms(config).items())
        + f"; {parameters / 1e6:.2f} M parameters",
    )
    yield "objective", objective_words(config)
    yield "optimizer", optimizer_words(config)
    yield "rate", rate_words(config, program.warmup_steps, program.total_steps)
    if not config.views.plain:
        yield "views", _views(config, train.image_shape)
    if config.extensions:
        yield "extension", extension_words(config, len(train))
    yield (
        "devices",
        f"{program.mesh.size} {jax.devices()[0].platform} in "
        f"{program.processes} process{'es' * (program.processes > 1)}; "
        f"layers in {resolve_dtype(config.compute_dtype)} by {program.kernels}",
    )
    if splits_state(config):
        state, over_data = program.abstract_state, config.shard_state
        yield "state", f"{bytes_of_a_device(state) / 1e6:,.1f} MB on each device"
        if whole := what_stays_whole(state, program.mesh, over_data):
            yield "state", whole
    for note in data.description["notes"]:
        yield "note", note


def optimizer_words(config: TrainConfig) -> str:
    """Describe the optimizer: momentum, weight decay, and what is not usual for it.

    The settings are those that the norm of a recipe chooses, and those of the command.
    """
    optim, usual = config.optim, OptimConfig()
    text = f"{optim.name}, momentum {optim.momentum:g}, "
    text += f"weight decay {optim.weight_decay:g}"
    names = ["bias_weight_decay", "bias_lr_scale", "projector_lr_scale"]
    if uses_predictor(config) and not predictor_rate_is_constant(config):
        names.append("predictor_lr_scale")
    if optim.name == "lars":
        names.append("trust_coefficient")
    for name in names:
        if (value := getattr(optim, name)) != getattr(usual, name):
            text += f", {name.replace('_', '-')} {value:g}"
    return f"{text}, lars-clip" if optim.lars_clip else text


def rate_words(config: TrainConfig, warmup_steps: int, total_steps: int) -> str:
    """Describe the learning rates and, if there is a target network, its tau."""
    text = (
        f"{config.base_lr:g} x {config.batch_size} / 256 = "
        f"{peak_learning_rate(config):g}, {warmup_steps} of {total_steps} steps of "
        f"warm-up"
    )
    constant = constant_predictor_rate(config)
    if constant is not None and uses_predictor(config):
        rate = constant * config.optim.predictor_lr_scale
        text += f", predictor constant at {rate:g}"
    if uses_target_network(config):
        text += f", tau {config.optim.tau_base:g}"
        text += " to 1" if config.optim.tau_schedule == "cosine" else ""
    return text


def crowded(batch_size: int, images: int) -> str | None:
    """Return a note if a batch holds images more than once; None if it does not."""
    if batch_size <= images:
        return None
    return (
        f"a batch of {batch_size} holds each image {batch_size / images:.1f} times; a "
        f"smaller --batch-size avoids this"
    )


def _views(config: TrainConfig, image_shape: tuple[int, ...]) -> str:
    """The views of an image in words."""
    views, (height, width, _) = config.views, image_shape
    text = f"{views.count} large ones of {height}x{width}"
    if views.small:
        sides = "x".join(str(small_side(side, views)) for side in (height, width))
        text += f", {views.small} small ones of {sides} ({views.small_predictor} "
        text += "predictor)"
    mean = views.targets == "mean"
    aim = "the mean of the other targets" if mean else "each of the other targets"
    passed = ", processed one at a time" if views.accumulate else ""
    return f"{text}; each predicts {aim}{passed}"


def what_stays_whole(state: Any, mesh: Mesh, over_data: bool) -> str | None:
    """Return a sentence about the arrays that every device holds whole.

    None if there are none that should be split. `state` is the abstract state with its
    shardings. `over_data` is True under --shard-state.
    """
    whole, reasons = left_whole(state, mesh), []
    if not whole:
        return None
    data, model = mesh.shape["data"], mesh.shape["model"]
    if model > 1:
        reasons.append(f"{model} model devices do not divide their last axis")
    if over_data and data > 1:
        reasons.append(f"{data} data devices divide none of their axes")
    elif over_data:
        reasons.append("--run.model-devices leaves none to --shard-state")
    leaves = jax.tree.leaves(state)
    total = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    largest = sorted(whole, key=whole.get, reverse=True)[:NAMED]
    more = f" and {len(whole) - NAMED} more" if len(whole) > NAMED else ""
    return (
        f"{len(whole)} of {len(leaves)} arrays "
        f"({sum(whole.values()) / 1e6:,.1f} of {total / 1e6:,.1f} MB) are not "
        f"split, because {' and '.join(reasons)}: {', '.join(largest)}{more}"
    )
