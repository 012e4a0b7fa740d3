"""The description that accompanies weights: the network, its preprocessing, its origin.

It is small and independent of the settings of a run, so old files stay readable.
"""

import json
from pathlib import Path
from typing import Any, Literal

from byol_bnfree.config import (
    AugmentConfig,
    DataConfig,
    ModelConfig,
    TrainConfig,
    height_and_width,
)
from byol_bnfree.data.geometry import EVAL_SHARE
from byol_bnfree.errors import InputError

FAMILIES = ("byol_bnfree", "torchvision", "timm", "stablehlo")
KEY = "byol_bnfree"
"""Key of the description in the metadata of a safetensors file."""
VERSION = 1  # raise it if older versions could not read the description
NETWORK = (
    *("name", "width", "stem", "stem_stride", "stem_channels", "padding", "shortcuts"),
    *("groups", "min_group_channels", "standardize_conv"),
)
LATER = ("unit_kernels",)
"""Settings of the network that older descriptions do not have."""
CONVERSION = ("white", "alpha", "max_pixels")
"""Settings of the data that turn stored values into pixels. Older descriptions may lack
them."""
LARGE = 128  # pixels; smaller pictures are evaluated whole


def describe(
    config: TrainConfig,
    *,
    family: str,
    step: int,
    encoder: Literal["online", "target"] = "online",
    crop_share: float | None = None,
    source: str | None = None,
    licence: str | None = None,
) -> dict[str, Any]:
    """Describe an encoder with this configuration.

    Its data are unknown (None) for state dicts of other programs: they have step 0, and
    their configuration has the default data.

    Args:
      config: `norm` is the norm of the encoder.
      family: the family of names that the arrays have.
      step: optimizer steps of its training.
      encoder: the network that it belongs to.
      crop_share: share of a picture's shorter side that the network sees.
      source: origin of the weights.
      licence: licence of the weights.
    """
    data = config.data
    known = step > 0 or config.dataset != TrainConfig().dataset
    if crop_share is None:
        large = min(height_and_width(data.image_size or 1)) >= LARGE
        crop_share = EVAL_SHARE if large else 1.0
    return {
        "version": VERSION,
        "family": family,
        "network": {"norm": config.norm}
        | {name: getattr(config.model, name) for name in NETWORK + LATER},
        "preprocessing": {
            "image_size": data.image_size,  # a side, or height and width
            "channels": data.channels,
            "channel_order": "RGB" if data.channels == 3 else "as in the data",
            "crop_share": crop_share,
            "resize": "largest central part of the shape of image_size, crop_share of "
            "its sides, bicubic",
            "scale": 1 / 255,
            **{name: getattr(data, name) for name in CONVERSION},
            "mean": list(config.augment.mean),
            "std": list(config.augment.std),
        },
        "encoder": encoder,
        "step": step,
        "dataset": without_place(config.dataset) if known else None,
        "source": source,
        "licence": licence,
    }


def without_place(path: str | None) -> str | None:
    """Remove the parent folders from a path or folder:PATH, because they are private.

    A relative path stays, because it belongs to the project.
    """
    kind, colon, place = (path or "").rpartition("folder:")
    if path is None or not place.startswith(("/", "~")):
        return path
    return f"{kind}{colon}{Path(place).name}"


def to_config(description: dict[str, Any]) -> TrainConfig:
    """Return a configuration whose encoder has the described weights.

    Raises:
      InputError: if the description is newer than this version, or has unknown
        settings.
    """
    try:
        if description["version"] > VERSION:
            raise InputError(
                f"the weights were written by a newer byol_bnfree (description "
                f"{description['version']}, this version reads {VERSION}); update it."
            )
        network, images = description["network"], description["preprocessing"]
        family, step = description["family"], description["step"]
        if family not in FAMILIES or not isinstance(step, int):
            raise TypeError(f"family {family}, step {step}")
        size = images["image_size"]
        settings = {name: network[name] for name in NETWORK}
        # Without a later setting, its default is the behaviour of the older version.
        settings |= {name: network[name] for name in LATER if name in network}
        pixels = {name: images[name] for name in CONVERSION if name in images}
        return TrainConfig(
            norm=network["norm"],
            dataset=description["dataset"] or "shapes",
            model=ModelConfig(**settings),
            augment=AugmentConfig(mean=tuple(images["mean"]), std=tuple(images["std"])),
            data=DataConfig(
                image_size=tuple(size) if isinstance(size, list) else size,
                channels=images["channels"],
                **pixels,
            ),
        )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"the description in the file of weights is incomplete ({error}); "
            f"write the file again with `python -m byol_bnfree.export`."
        ) from error


def from_metadata(metadata: dict[str, str] | None) -> dict[str, Any] | None:
    """Read the description in a safetensors file's metadata; None if there is none."""
    text = (metadata or {}).get(KEY)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(
            "the description in the file of weights is not JSON; write the file again "
            "with `python -m byol_bnfree.export`."
        )
    return found


def read_description(path: Path) -> dict[str, Any]:
    """Read the description in a file beside the weights; `InputError` if missing."""
    try:
        return from_metadata({KEY: path.read_text()})
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); keep it beside the program."
        ) from error
