"""State dicts of torchvision, timm, lightly and solo-learn as encoders of this package.

The shapes determine the network. A state dict lacks four facts, which are arguments
(`Facts`): the padding (PyTorch's is symmetric, and a wrong one lowers the accuracy by
points), the number of groups of a GroupNorm, whether kernels are standardized, and the
stride of a small stem. State dicts of our own program for PyTorch state all of them.
"""

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from byol_bnfree.config import DataConfig, ModelConfig, Norm, TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.interop.layouts import check_unused, from_solo_learn, without_prefix
from byol_bnfree.interop.names import Family, imported
from byol_bnfree.interop.trees import Flat
from byol_bnfree.models.architectures import ARCHITECTURES
from byol_bnfree.models.standardize import EPSILON
from byol_bnfree.settings.types import check_types
from byol_bnfree.training.running_stats import SETTLED

SIZES = {"imagenet": 224, "small": 32}
TIMM_EPSILON = {False: 1e-6, True: 1e-8}
"""Epsilon of timm's `StdConv2d`: its default, and in pre-activation networks (BiT)."""
Padding = Literal["same", "torch", "solo_learn", "bit"]


@dataclass(frozen=True)
class Facts:
    """What a state dict does not state of its network; None is not known.

    `from_state_dict` explains them. `InputError` for a value of another type.
    """

    padding: Padding | None = None
    groups: int | None = None
    standardized: bool | None = None
    stem_stride: Literal[1, 2] | None = None

    def __post_init__(self):
        check_types(self, called=str)

    def check_unneeded(self, path: Path) -> None:
        """Raise `InputError` if a fact is given for a file that states them itself."""
        given = [name for name, value in vars(self).items() if value is not None]
        if given:
            raise InputError(
                f"{path} states its network itself; leave out {', '.join(given)}, "
                f"which state dicts of other programs need."
            )


def from_state_dict(
    theirs: Flat,
    network: Literal["online", "target"] = "online",
    *,
    padding: Padding | None = None,
    groups: int | None = None,
    standardized: bool | None = None,
    stem_stride: Literal[1, 2] | None = None,
    image_size: int | None = None,
) -> tuple[dict[str, Flat], TrainConfig]:
    """Return the encoder's variables in a state dict, flat, and a configuration for
    them.

    Args:
      theirs: arrays by their names.
      network: lightly and solo-learn save the target ("momentum") network too.
      padding: of strided convolutions and the max-pool. None takes PyTorch's,
        solo-learn's own for a small stem in its checkpoints, or BiT's for a
        pre-activation network with GroupNorm.
      groups: of GroupNorm, if there is no BatchNorm. None takes 32, as in timm.
      standardized: the network has Weight Standardization, as timm's `StdConv2d`. None:
        where timm's ResNetV2 has GroupNorm, as all of its released ones do.
      stem_stride: of a small stem. None takes 1, as others do.
      image_size: pixels. None takes 224, or 32 for a small stem.

    Raises:
      InputError: if there is no encoder, `create_encoder` cannot build it, a fact
        does not belong to it, or one of ours lacks its facts.
    """
    alone = without_prefix(theirs, network)
    family: Family = "timm" if "stem.conv.weight" in alone else "torchvision"
    found, unused = imported(alone, family)
    check_unused(unused)
    preactivation = "final_norm/scale" in found["params"]
    _settle(found)
    norm = "bn" if "batch_stats" in found else "gn"
    if standardized is None:
        standardized = family == "timm" and norm == "gn"
    if standardized:
        norm = _standardized(norm)
        found["params"] = _as_ours(found["params"], TIMM_EPSILON[preactivation])
    usual = "bit" if preactivation and norm != "bn" else "torch"
    model = architecture_of(found["params"], padding or usual, groups or 32)
    _check_facts(model, norm, Facts(padding, groups, standardized, stem_stride))
    model = dataclasses.replace(
        model, unit_kernels=standardized, stem_stride=stem_stride or 1
    )
    if padding is None and model.stem == "small" and from_solo_learn(theirs):
        model = dataclasses.replace(model, padding="solo_learn")
    size = image_size or SIZES[model.stem]
    channels = found["params"]["conv1/kernel"].shape[2]
    data = DataConfig(image_size=size, channels=channels)
    return found, TrainConfig(norm=norm, model=model, data=data)


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
    """Raise `InputError` for a fact that the network does not have, or must state."""
    if facts.groups is not None and norm == "bn":
        raise InputError(
            "the state dict has BatchNorm, which has no groups; leave out groups."
        )
    small = model.stem == "small"
    if facts.stem_stride is not None and not small:
        raise InputError(
            "the state dict has a 7x7 stem, whose stride is 2; leave out stem_stride."
        )
    known = ARCHITECTURES[model.name]
    usual = known.bottleneck or model.shortcuts == "changed_shape"
    if usual or model.stem_channels is not None:
        return
    # No other library has such networks, and ours have other facts than theirs.
    needed = ["padding"] + ["stem_stride"] * small + ["groups"] * (norm == "gn")
    missing = [name for name in needed if getattr(facts, name) is None]
    if missing:
        raise InputError(
            f"the state dict has a projection in the first of its basic blocks, as "
            f"networks of this package and not those of torchvision and timm; give "
            f"{' and '.join(missing)}, or the export that it comes from."
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
