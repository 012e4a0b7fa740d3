"""Settings that have no effect beside the other settings of a run.

They are not refused: a recipe may hold them for another network, and old work folders
stay readable. A run names them before its first step.
"""

import dataclasses
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

from byol_bnfree.config import HeadConfig, TrainConfig, ViewConfig
from byol_bnfree.errors import flag
from byol_bnfree.models.architectures import ARCHITECTURES
from byol_bnfree.settings.names import GROUPED, STANDARDIZED
from byol_bnfree.settings.norms import part_norms
from byol_bnfree.settings.objective_checks import (
    norms_in_use,
    uses_predictor,
    uses_target_network,
)

OF_RESNETS = ("name", "width", "stem", "stem_stride", "stem_channels", "padding")
OF_RESNETS += ("shortcuts", "last_scale_init")
OF_EVALUATION = ("crop_area", "crop_aspect", "flip", "vertical_flip", "quarter_turn")
"""Settings of view 1 that the probes of evaluation use too."""
OF_JITTER = ("brightness", "contrast", "saturation", "hue")
OF_FILES = ("white", "alpha", "max_pixels", "in_memory_gib", "workers")


def without_effect(config: TrainConfig, backend: str) -> list[str]:
    """Return a sentence for each setting that differs from its default in vain.

    `backend` is the one of JAX: "cpu", "gpu" or "tpu".
    """
    rules = (_of_the_network, _of_the_optimizer, _of_the_views, _of_the_rest)
    found = [pair for rule in rules for pair in rule(config)]
    if backend == "cpu":
        found.append((("remat",), "on CPUs a step needs as much memory with it"))
    sentences = []
    for names, why in found:
        for name in names:
            value = _changed(config, name)
            if value is not None:
                sentences.append(f"{flag(name)} {value} has no effect: {why}")
    return sentences


Rules = Iterator[tuple[tuple[str, ...], str]]


def _of_the_network(config: TrainConfig) -> Rules:
    model = config.model
    if config.encoder is not None:
        names = tuple(f"model.{name}" for name in OF_RESNETS)
        yield names, f"the encoder is {config.encoder}"
    else:
        if model.stem == "imagenet":
            yield ("model.stem_stride",), "only --model.stem small has it"
        if not ARCHITECTURES[model.name].bottleneck:
            yield ("model.last_scale_init",), f"{model.name} has no bottleneck blocks"
    norms = part_norms(config)
    if not GROUPED & {*norms_in_use(config).values()}:
        names = ("model.groups", "model.min_group_channels")
        yield names, "no part has norm gn or gn_ws"
    if norms["encoder"] not in STANDARDIZED:
        yield ("model.standardize_conv",), f"the encoder has norm {norms['encoder']}"
    heads = ("projector", "predictor") if uses_predictor(config) else ("projector",)
    if not STANDARDIZED & {norms[head] for head in heads}:
        yield ("model.standardize_dense",), "no head has norm gn_ws or ws"
    for head in heads:
        yield from _of_a_head(config, head)
    if not uses_predictor(config):
        fields = (field.name for field in dataclasses.fields(HeadConfig))
        names = tuple(f"model.predictor.{name}" for name in fields)
        names += ("predictor_norm", "model.predictor_start")
        yield names, f"the loss of {config.objective} uses no predictor here"
    elif config.objective == "rotation":
        yield ("model.predictor.out",), "rotation predicts one of four turns"
    if config.init_from is None:
        names = ("init_from_part", "init_from_other_norm")
        yield names, "there is no --init-from"


def _of_a_head(config: TrainConfig, part: str) -> Rules:
    """Name settings of a head that the loss uses."""
    norm, head = part_norms(config)[part], getattr(config.model, part)
    if norm not in STANDARDIZED:
        yield (f"model.{part}.plain_dense",), f"the {part} has norm {norm}"
    if head.depth > 1:
        return
    yield (f"model.{part}.hidden",), f"the {part} is one layer"
    # A norm also says whether the kernel is standardized.
    never = not config.model.standardize_dense or 1 in head.plain_dense
    if never or (norm in STANDARDIZED) == (config.norm in STANDARDIZED):
        yield (f"{part}_norm",), f"the {part} is one layer, which no norm follows"


def _of_the_optimizer(config: TrainConfig) -> Rules:
    if config.optim.name != "lars":
        yield ("optim.trust_coefficient",), f"the optimizer is {config.optim.name}"
    if not uses_target_network(config):
        names = ("target_init", "optim.tau_base", "optim.tau_schedule")
        yield names, "the objective has no target network"
    if config.infonce.beta == 0:
        yield ("infonce.alpha",), "--infonce.beta 0 leaves out the negatives"


def _of_the_views(config: TrainConfig) -> Rules:
    views, augment = config.views, config.augment
    if augment.function is not None:
        yield ("views.small_area",), f"{augment.function} makes the views"
    if not views.small:
        names = ("views.small_area", "views.small_predictor")
        yield names, "there are no small views; add --views.small"
        if views.count == 2:
            yield ("views.targets",), "with two views both are the same loss"
    for view in ("view1", "view2"):
        chances = getattr(augment, view)
        rules = _of_a_view(chances)
        if augment.function is not None:
            used = OF_EVALUATION if view == "view1" else ()
            fields = (field.name for field in dataclasses.fields(chances))
            names = tuple(name for name in fields if name not in used)
            rules = iter([(names, f"{augment.function} makes the views")])
        for names, why in rules:
            yield tuple(f"augment.{view}.{name}" for name in names), why


def _of_a_view(view: ViewConfig) -> Rules:
    if view.jitter == 0:
        yield OF_JITTER, "the probability of jitter is 0"
    if view.blur == 0:
        yield ("blur_sigma",), "the probability of blur is 0"
    if view.solarize == 0:
        yield ("solarize_threshold",), "the probability of solarize is 0"


def _of_the_rest(config: TrainConfig) -> Rules:
    if config.steps is not None:
        yield ("epochs",), "--steps gives the length of the run"
    if not config.evaluation.knn_in_training:
        yield ("evaluation.linear_too",), "no kNN accuracy is measured during the run"
    if config.dataset == "shapes":
        names = tuple(f"data.{name}" for name in OF_FILES)
        yield ("data_dir", "on_bad_image", *names), "the shapes are generated"
    else:
        names = ("data.shapes_train", "data.shapes_test")
        yield names, f"the data set is {config.dataset}"


def _changed(config: TrainConfig, name: str) -> Any:
    """Return the value of a setting, or None if it is the default."""
    of = attrgetter(name)
    return None if of(config) == of(TrainConfig()) else of(config)
