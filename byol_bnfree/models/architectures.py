"""The shapes of the residual networks, by name."""

from typing import NamedTuple

from byol_bnfree.errors import InputError


class Architecture(NamedTuple):
    """The shape of a network: for each group, its blocks and its output channels.

    Channels are those at width 1. `bottleneck` and `preactivation` choose the block
    type. Networks with v2 at the end of their names have pre-activation blocks.
    """

    blocks: tuple[int, ...]
    channels: tuple[int, ...]
    bottleneck: bool
    stem_channels: int
    preactivation: bool = False


BASIC, BOTTLENECK = (64, 128, 256, 512), (256, 512, 1024, 2048)
CIFAR = (16, 32, 64)
ARCHITECTURES: dict[str, Architecture] = {
    "resnet8": Architecture((1, 1, 1), CIFAR, False, 16),
    "resnet14": Architecture((2, 2, 2), CIFAR, False, 16),
    "resnet20": Architecture((3, 3, 3), CIFAR, False, 16),
    "resnet56": Architecture((9, 9, 9), CIFAR, False, 16),
    "resnet18": Architecture((2, 2, 2, 2), BASIC, False, 64),
    "resnet34": Architecture((3, 4, 6, 3), BASIC, False, 64),
    "resnet50": Architecture((3, 4, 6, 3), BOTTLENECK, True, 64),
    "resnet101": Architecture((3, 4, 23, 3), BOTTLENECK, True, 64),
    "resnet152": Architecture((3, 8, 36, 3), BOTTLENECK, True, 64),
    "resnet200": Architecture((3, 24, 36, 3), BOTTLENECK, True, 64),
}
ARCHITECTURES |= {
    f"{name}v2": shape._replace(preactivation=True)
    for name, shape in ARCHITECTURES.items()
}


def scaled_channels(channels: int, width: float) -> int:
    """Return a layer's channels at a width; `InputError` if not a whole number."""
    scaled = channels * width
    if scaled < 1 or scaled != int(scaled):
        raise InputError(
            f"width {width:g} makes a layer of {channels} channels {scaled:g} wide; "
            f"choose a width that gives whole numbers, such as 0.25, 0.5, 1, 2 or 4."
        )
    return int(scaled)
