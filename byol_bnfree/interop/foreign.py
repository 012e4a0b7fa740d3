"""State dicts of torchvision, timm, lightly and solo-learn as encoders of this package.

The shapes determine the network. What a state dict lacks are arguments (`Facts`): the
padding (PyTorch's is symmetric, and a wrong one lowers the accuracy by points), the
number of groups of a GroupNorm, whether kernels are standardized, the stride of a small
stem, and size and normalization of the pixels. State dicts of our own program for
PyTorch state all of them.
"""

import dataclasses
import math
import re
from typing import Literal

import numpy as np

from byol_bnfree.config import (
    AugmentConfig,
    DataConfig,
    ModelConfig,
    Norm,
    TrainConfig,
)
from byol_bnfree.errors import InputError
from byol_bnfree.interop.description import KEY
from byol_bnfree.interop.facts import NO_FACTS, Facts, where_to_give
from byol_bnfree.interop.layouts import check_unused, from_solo_learn, without_prefix
from byol_bnfree.interop.names import Family, imported
from byol_bnfree.interop.trees import Flat
from byol_bnfree.models.architectures import ARCHITECTURES
from byol_bnfree.models.standardize import EPSILON
from byol_bnfree.training.running_stats import SETTLED

SIZES = {"imagenet": 224, "small": 32}
TIMM_EPSILON = {False: 1e-6, True: 1e-8}
"""Epsilon of timm's `StdConv2d`: its default, and in pre-activation networks (BiT)."""
INCEPTION = AugmentConfig(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
"""Pixels of every ResNetV2 of timm (`IMAGENET_INCEPTION_MEAN`, `IMAGENET_INCEPTION_STD`
in its resnetv2.py)."""
CIFAR = {
    10: AugmentConfig(mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616)),
    100: AugmentConfig(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)),
}
"""Pixels of solo-learn's networks with a small stem, by classes (`CifarTransform` in
its pretrain_dataloader.py)."""
CLASSIFIERS = ("fc.weight", "head.fc.weight")
"""The classifiers of torchvision and timm. No encoder of this package has one."""
ORIGINAL = (
    f"give the export that it comes from, or save its arrays as safetensors with "
    f"metadata={{'{KEY}': the text of that export's encoder.json or config.json}}"
)


def from_state_dict(
    theirs: Flat,
    network: Literal["online", "target"] = "online",
    facts: Facts = NO_FACTS,
) -> tuple[dict[str, Flat], TrainConfig]:
    """Return the encoder's variables in a state dict, flat, and a configuration for
    them.

    Args:
      theirs: arrays by their names.
      network: lightly and solo-learn save the target ("momentum") network too.
      facts: what the state dict does not state.

    Raises:
      InputError: if there is no encoder, `create_encoder` cannot build it, a fact does
        not belong to it, or a network of this package may have these arrays too.
    """
    alone = without_prefix(theirs, network)
    family: Family = "timm" if "stem.conv.weight" in alone else "torchvision"
    found, unused = imported(alone, family)
    check_unused(unused)
    preactivation = "final_norm/scale" in found["params"]
    _settle(found)
    norm = "bn" if "batch_stats" in found else "gn"
    standardized = facts.standardized
    if standardized is None:
        standardized = family == "timm" and norm == "gn"
    if standardized:
        norm = _standardized(norm)
        found["params"] = _as_ours(found["params"], TIMM_EPSILON[preactivation])
    padding = facts.padding or ("bit" if preactivation and norm != "bn" else "torch")
    model = architecture_of(found["params"], padding, facts.groups or 32)
    _check_facts(model, norm, facts)
    if _only_ours(model, family):
        _check_ours(model, norm, facts)
    elif norm != "bn" and facts.groups is None:
        _check_timms(unused)
    model = dataclasses.replace(
        model, unit_kernels=standardized, stem_stride=facts.stem_stride or 1
    )
    usual = INCEPTION if family == "timm" else AugmentConfig()
    if model.stem == "small" and from_solo_learn(theirs):
        usual = CIFAR.get(len(theirs["classifier.weight"]), usual)
        padding = facts.padding or "solo_learn"
        model = dataclasses.replace(model, padding=padding)
    data = DataConfig(
        image_size=facts.image_size or SIZES[model.stem],
        channels=found["params"]["conv1/kernel"].shape[2],
    )
    pixels = _pixels(usual, facts)
    return found, TrainConfig(norm=norm, model=model, data=data, augment=pixels)


def _pixels(usual: AugmentConfig, facts: Facts) -> AugmentConfig:
    """Return mean and deviation of the pixels; `InputError` if their lengths differ."""
    mean, std = facts.mean or usual.mean, facts.std or usual.std
    if len(mean) != len(std):
        raise InputError(
            f"mean has {len(mean)} numbers and std {len(std)}; give both one number "
            f"for each channel."
        )
    return AugmentConfig(mean=mean, std=std)


def from_our_program(theirs: Flat) -> dict[str, Flat]:
    """Return the variables in a state dict of `for_torch/encoder.py`, flat.

    Its kernels and its running statistics are plain (`folding`).
    """
    found, unused = imported(without_prefix(theirs, "online"), "torchvision")
    check_unused(unused)
    _settle(found)
    return found


def _settle(found: dict[str, Flat]) -> None:
    """Set the counts of BatchNorm: PyTorch's running values need no correction."""
    stats = found.get("batch_stats", {})
    norms = {name.rpartition("/")[0] for name in stats}
    stats |= {f"{norm}/count": np.int32(SETTLED) for norm in norms}


def _check_facts(model: ModelConfig, norm: str, facts: Facts) -> None:
    """Raise `InputError` for a fact that the network does not have."""
    if facts.groups is not None and norm == "bn":
        raise InputError(
            "the state dict has BatchNorm, which has no groups; leave out groups."
        )
    if facts.stem_stride is not None and model.stem != "small":
        raise InputError(
            "the state dict has a 7x7 stem, whose stride is 2; leave out stem_stride."
        )


def _only_ours(model: ModelConfig, family: Family) -> bool:
    """Return True if no other library has a network with these arrays."""
    known = ARCHITECTURES[model.name]
    if known.preactivation and family == "torchvision":
        return True
    projects = not known.bottleneck and model.shortcuts == "every_group"
    return projects and model.stem_channels is None


def _check_ours(model: ModelConfig, norm: str, facts: Facts) -> None:
    """Raise `InputError` if a state dict of this package lacks too much.

    A GroupNorm of ours has more settings than facts: narrow layers have fewer groups,
    and kernels may be standardized in several ways.
    """
    ours = (
        "the state dict has arrays that only networks of this package have, and it "
        "lost its description"
    )
    if norm != "bn":
        raise InputError(f"{ours}; {ORIGINAL}.")
    needed = ["padding", "stem_stride"] if model.stem == "small" else ["padding"]
    if missing := [name for name in needed if getattr(facts, name) is None]:
        raise InputError(f"{ours}; {where_to_give(missing)}, or {ORIGINAL}.")


def _check_timms(unused: list[str]) -> None:
    """Raise `InputError` if a GroupNorm may be one of this package."""
    if not any(name in unused for name in CLASSIFIERS):
        raise InputError(
            f"the state dict has GroupNorm and no classifier, as networks of this "
            f"package and some of timm, which differ in their groups; for a network "
            f"of timm {where_to_give(['groups'])}, and otherwise {ORIGINAL}."
        )


def _standardized(norm: str) -> Norm:
    if norm == "bn":
        raise InputError(
            "the state dict has BatchNorm, and no norm here is BatchNorm with "
            "standardized kernels; give standardized=False, or another network."
        )
    return "gn_ws"


def _as_ours(params: Flat, epsilon: float) -> Flat:
    """Scale the kernels of timm's `StdConv2d`, so that the epsilons agree.

    timm adds its epsilon to the variance of a kernel. `weight_standardize` adds its own
    to fan_in times the variance. Standardization cancels every other effect of a scale.
    """

    def scaled(kernel: np.ndarray) -> np.ndarray:
        fan_in = math.prod(kernel.shape[:-1])
        return (kernel * math.sqrt(EPSILON / epsilon / fan_in)).astype(kernel.dtype)

    return {
        name: scaled(value) if name.endswith("/kernel") else value
        for name, value in params.items()
    }


def architecture_of(params: Flat, padding: str, groups: int) -> ModelConfig:
    """Return the encoder that has these parameters; `InputError` if none has."""
    blocks: dict[int, int] = {}
    for name in params:
        if match := re.match(r"group(\d+)_block(\d+)/", name):
            group = int(match[1])
            blocks[group] = max(blocks.get(group, 0), int(match[2]) + 1)
    counts = tuple(blocks[group] for group in sorted(blocks))
    bottleneck = "group0_block0/conv3/kernel" in params
    preactivation = "final_norm/scale" in params
    wanted = (counts, bottleneck, preactivation)
    name = next(
        (
            name
            for name, known in ARCHITECTURES.items()
            if (known.blocks, known.bottleneck, known.preactivation) == wanted
        ),
        None,
    )
    if name is None or params.get("conv1/kernel", np.zeros(0)).ndim != 4:
        kind = "bottleneck" if bottleneck else "basic"
        raise InputError(
            f"no encoder here has {counts} {kind} blocks and one convolution as stem; "
            f"give a ResNet such as {', '.join(list(ARCHITECTURES)[4:8])}."
        )
    known, stem = ARCHITECTURES[name], params["conv1/kernel"]
    last = f"group0_block0/conv{3 if bottleneck else 2}/kernel"
    # The last kernel of a block shows the width: a bottleneck is narrower inside.
    width = params[last].shape[-1] / known.channels[0]
    plain = stem.shape[-1] == known.stem_channels * width
    projects = "group0_block0/shortcut_conv/kernel" in params
    return ModelConfig(
        name=name,
        width=width,
        stem="imagenet" if stem.shape[0] == 7 else "small",
        stem_channels=None if plain else stem.shape[-1],
        padding=padding,
        shortcuts="every_group" if projects else "changed_shape",
        groups=groups,
        # Elsewhere the number of groups is fixed, whatever the size of a group.
        min_group_channels=1,
    )
