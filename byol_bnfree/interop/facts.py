"""What a state dict of another program does not state of its network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from byol_bnfree.errors import InputError, flag
from byol_bnfree.settings.checks import LEAST_STD
from byol_bnfree.settings.types import ImageSize, check_types, height_and_width

Padding = Literal["same", "torch", "solo_learn", "bit"]


@dataclass(frozen=True)
class Facts:
    """What a state dict of another program does not state. None: what it usually has.

    `InputError` for a value of another type or range.
    """

    padding: Padding | None = None
    """Padding of strided convolutions and the max-pool. None: PyTorch's; solo-learn's
    for a small stem in its checkpoints; BiT's for pre-activation networks with
    GroupNorm."""
    groups: int | None = None
    """Groups of every GroupNorm. None: 32, as in timm, if the state dict has timm's
    classifier."""
    standardized: bool | None = None
    """The network has Weight Standardization, as timm's StdConv2d. None: yes for
    a ResNetV2 of timm with GroupNorm, otherwise no."""
    stem_stride: Literal[1, 2] | None = None
    """Stride of a small stem. None: 1."""
    image_size: ImageSize | None = None
    """Height and width of its images in pixels. None: 224, or 32 for a small stem."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel, subtracted from pixels in [0, 1]. None: 0.5 for ResNetV2 of
    timm; CIFAR's for a small stem of solo-learn; ImageNet's for others."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each channel. The result is divided by it. None: as for
    mean."""

    def __post_init__(self):
        check_types(self, called=str)
        for name, allowed, wrong in (
            ("groups", "a positive number", lambda x: x < 1),
            ("image_size", "positive", lambda x: min(height_and_width(x)) < 1),
            ("mean", "one number for each channel", lambda x: not x),
            (
                "std",
                f"one number of at least {LEAST_STD:g} for each channel",
                lambda x: min(x, default=0) < LEAST_STD,
            ),
        ):
            value = getattr(self, name)
            if value is not None and wrong(value):
                raise InputError(f"{name} is {value}; it must be {allowed}.")

    def given(self) -> dict[str, Any]:
        """Return the facts that are not None, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def check_unneeded(self, path: Path) -> None:
        """Raise `InputError` if a fact is given for a file that states them itself."""
        if given := self.given():
            raise InputError(
                f"{path} states its network itself; leave out {', '.join(given)}, "
                f"which state dicts of other programs need."
            )


NO_FACTS = Facts()


def where_to_give(names: list[str]) -> str:
    """Say how facts are given in Python and on command lines."""
    flags = " and ".join(flag(f"facts.{name}") for name in names)
    return (
        f"give {' and '.join(names)} (arguments of load_encoder; evaluate, embed and "
        f"export take {flags})"
    )
