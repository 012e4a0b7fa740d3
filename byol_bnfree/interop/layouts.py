"""Finds the encoder in the state dicts of training libraries, by its names."""

import re

from byol_bnfree.errors import InputError
from byol_bnfree.interop.trees import Flat

PREFIXES = {
    "online": (
        *("", "module.", "backbone.", "encoder.", "model.", "model.backbone."),
        *("module.backbone.", "module.encoder.", "net.", "resnet."),
    ),
    "target": (
        *("backbone_momentum.", "momentum_backbone.", "target_encoder."),
        *("momentum_encoder.", "module.momentum_encoder.", "teacher_backbone."),
    ),
}
"""Prefixes of the encoder's names in checkpoints of training libraries."""
STEMS = ("conv1.weight", "0.weight", "stem.conv.weight")
DEEP_STEM = re.compile(r"(?:.+\.)?(?:stem\.conv1|conv1\.0)\.weight")
OURS = re.compile(r"(?:conv1|bn1|stem|norm|layer\d+|stages)\.")
"""Names of layers that an encoder has; others belong to a head."""


def from_solo_learn(theirs: Flat) -> bool:
    """Return True if the names come from a training checkpoint of solo-learn.

    Its encoder has torchvision's names below `backbone.` (`encoder.` before 2022),
    beside an online `classifier`. It pads a 3x3 stem by two pixels.
    """
    places = ("backbone.conv1.weight", "encoder.conv1.weight")
    return "classifier.weight" in theirs and any(place in theirs for place in places)


def without_prefix(theirs: Flat, network: str) -> Flat:
    """Return the encoder's arrays under the names of torchvision or timm."""
    prefix = next(
        (
            prefix
            for prefix in PREFIXES[network]
            if any(prefix + stem in theirs for stem in STEMS)
        ),
        None,
    )
    if prefix is None:
        deep = next(filter(DEEP_STEM.fullmatch, theirs), None)
        if deep:
            raise InputError(
                f"the state dict has {deep}, the first of several convolutions in its "
                f"stem (as in timm's resnetv2_50d), and encoders here have one; give a "
                f"network with one, such as timm's resnetv2_50."
            )
        some = ", ".join(list(theirs)[:3])
        raise InputError(
            f"no {network} ResNet is found in the state dict (its first names are "
            f"{some}); give one with names as torchvision's, timm's, lightly's or "
            f"solo-learn's."
        )
    alone = {
        name.removeprefix(prefix): value
        for name, value in theirs.items()
        if name.startswith(prefix)
    }
    # An nn.Sequential names its layers by numbers.
    if "0.weight" in alone:
        alone = {_named(name, _layers(alone)): value for name, value in alone.items()}
    # Some networks for small images call the projection of a block `shortcut`.
    return {n.replace(".shortcut.", ".downsample."): v for n, v in alone.items()}


def _layers(alone: Flat) -> dict[str, str]:
    """Map the index of each child of an nn.Sequential to its name in a ResNet.

    lightly has either all children of torchvision's network, or only those with arrays.
    """
    blocks = {m[1] for name in alone if (m := re.match(r"(\d+)\.\d+\.conv1", name))}
    layers = {index: f"layer{i}" for i, index in enumerate(sorted(blocks, key=int), 1)}
    return {"0": "conv1", "1": "bn1"} | layers


def _named(name: str, layers: dict[str, str]) -> str:
    index, _, rest = name.partition(".")
    return f"{layers.get(index, index)}.{rest}"


def check_unused(names: list[str]) -> None:
    """Raise `InputError` for a layer of the network that no encoder here has."""
    layers = [name for name in names if OURS.match(name)]
    if layers:
        raise InputError(
            f"the state dict has {layers[0]}, a layer that no encoder here has; give a "
            f"plain ResNet, without attention, biases of convolutions or other norms."
        )
