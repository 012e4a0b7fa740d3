"""Writes an encoder for other frameworks, with one function per format.

Both sides of a comparison compute in float32, and so does an exported program. The
dtype of the run and of this device play no part in a file.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Float, UInt8
from safetensors.numpy import save

from byol_bnfree.config import TrainConfig, height_and_width
from byol_bnfree.data.augment import normalized
from byol_bnfree.encoder import Encoder, encoder_module, load_encoder
from byol_bnfree.errors import InputError
from byol_bnfree.files import write_atomically, write_json
from byol_bnfree.interop.comparison import (
    SCRIPTS,
    Comparison,
    check_python,
    compared,
    features_in_parts,
    features_in_torch,
    pictures,
)
from byol_bnfree.interop.description import KEY, describe
from byol_bnfree.interop.folding import alone, folded
from byol_bnfree.interop.names import Family, exported
from byol_bnfree.interop.trees import flat
from byol_bnfree.models.architectures import ARCHITECTURES

WEIGHTS = "encoder.safetensors"
PROGRAM = "encoder.stablehlo"
DESCRIPTION = "encoder.json"
PLATFORMS = ("cpu", "cuda", "tpu")


def write(encoder: Encoder, folder: Path, settings: "Settings") -> list[Comparison]:
    """Write one format into a folder, and compare both sides.

    Raises:
      InputError: if the format cannot hold this encoder.
      RunStopped: if the exported encoder computes something else.
    """
    made: dict[str, Callable[[], list[Comparison]]] = {
        "safetensors": partial(_safetensors, encoder, folder, settings),
        "torch": partial(_torch, encoder, folder, settings),
        "stablehlo": partial(_stablehlo, encoder, folder, settings),
    }
    return made[settings.format]()


@dataclass(frozen=True)
class Settings:
    """Settings for writing and comparing."""

    format: str
    names: Family = "byol_bnfree"
    python: str | None = None
    """An interpreter with torch; None compares nothing in torch."""
    origin: dict[str, Any] = field(default_factory=dict)
    """Encoder, crop share, source and licence for the description."""


def save_weights(
    encoder: Encoder,
    path: Path,
    family: Family,
    origin: dict[str, Any],
    *,
    plain: bool,
) -> dict[str, Any]:
    """Write the weights under the names of a family; return the description.

    With `plain`, standardized kernels become plain ones, which any framework can run.
    Otherwise they stay as they are trained, so training can continue.
    """
    variables, config = encoder.variables, encoder.config
    if plain:
        variables = folded(variables, config)
    config = alone(config, plain=plain)
    description = describe(config, family=family, step=encoder.step, **origin)
    leaves = {name: flat(tree) for name, tree in variables.items()}
    metadata = {KEY: json.dumps(description), "format": "pt"}
    # `save_file` would make a file that only its owner can read.
    write_atomically(path, save(exported(leaves, family), metadata))
    write_json(path.with_name(DESCRIPTION), description)
    return description


def _safetensors(encoder: Encoder, folder: Path, settings: Settings):
    family = settings.names
    if family != "byol_bnfree":
        check_family(encoder.config, family)
        check_python(family, settings.python)
    path = folder / WEIGHTS
    plain = family != "byol_bnfree"
    save_weights(encoder, path, family, settings.origin, plain=plain)
    images, ours = _ours(encoder)
    read = _in_float32(load_encoder(path), images)
    found = [compared(ours, read, "the file read back")]
    if family != "byol_bnfree" and settings.python:
        theirs = features_in_torch(family, path, images, settings.python)
        found.append(compared(ours, *theirs))
    return found


def _torch(encoder: Encoder, folder: Path, settings: Settings) -> list[Comparison]:
    check_python("torch", settings.python)
    path = folder / WEIGHTS
    save_weights(encoder, path, "torchvision", settings.origin, plain=True)
    return with_program(encoder, path, settings.python)


def with_program(encoder: Encoder, path: Path, python: str | None) -> list[Comparison]:
    """Put encoder.py beside weights with torchvision's names, and run both sides."""
    script = (SCRIPTS / "encoder.py").read_bytes()
    write_atomically(path.with_name("encoder.py"), script)
    if not python:
        return []
    images, ours = _ours(encoder)
    return [compared(ours, *features_in_torch("torch", path, images, python))]


def _stablehlo(encoder: Encoder, folder: Path, settings: Settings):
    """Write a program for any batch size, from pixels in [0, 1] to representations.

    It computes in float32 on all platforms.
    """
    config = encoder.config
    height, width = height_and_width(config.data.image_size)
    variables = jax.tree.map(jnp.asarray, folded(encoder.variables, config))
    plain = alone(config, plain=True)
    module = encoder_module(plain)

    def encode(pixels):
        return module.apply(variables, normalized(pixels, plain.augment), False)

    # With a symbol for the batch, one program serves all sizes.
    (batch,) = export.symbolic_shape("b")
    shape = (batch, height, width, config.data.channels)
    pixels = jax.ShapeDtypeStruct(shape, jnp.float32)
    with _exact_products():  # the program keeps this
        program = export.export(jax.jit(encode), platforms=PLATFORMS)(pixels)
    path = folder / PROGRAM
    try:
        write_atomically(path, program.serialize())
    except ImportError as error:
        raise InputError(
            'format stablehlo needs flatbuffers; pip install ".[export]".'
        ) from error
    description = describe(
        plain, family="stablehlo", step=encoder.step, **settings.origin
    )
    write_json(folder / DESCRIPTION, description)
    images, ours = _ours(encoder)
    read = features_in_parts(jax.jit(load_encoder(path)), images)
    return [compared(ours, read, "the program read back")]


def _ours(encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
    """Return 64 pictures and the encoder's features of them."""
    images = pictures(encoder.config)
    return images, _in_float32(encoder, images)


def _in_float32(
    encoder: Encoder, images: UInt8[np.ndarray, "b h w c"]
) -> Float[np.ndarray, "b d"]:
    """Compute features in float32, whatever the run or this device would choose."""
    config = dataclasses.replace(encoder.config, compute_dtype="float32")
    encoder = dataclasses.replace(encoder, module=encoder_module(config))
    with _exact_products():
        return features_in_parts(jax.jit(encoder), images)


def _exact_products() -> AbstractContextManager[None]:
    """Products of float32, which GPUs and TPUs otherwise shorten by default."""
    return jax.default_matmul_precision("highest")


def check_family(config: TrainConfig, family: Family) -> None:
    """Raise `InputError` if torchvision or timm have no such network."""
    problem = next(_foreign_to(family, config), None)
    if problem is not None:
        raise InputError(
            f"{family} has no ResNet with {problem}; use --format=torch, which runs "
            f"any encoder in PyTorch."
        )


def _foreign_to(family: Family, config: TrainConfig) -> Iterator[str]:
    """Name the parts of a network that the library's networks do not have."""
    model, norm = config.model, alone(config, plain=True).norm
    known = ARCHITECTURES[model.name]
    if model.padding == "solo_learn" and model.stem == "small":
        yield "the padding of solo-learn's small stem"
    # Folding turns `gn_ws` into `gn`, which timm has.
    if norm not in ("bn", "gn"):
        yield f"norm {norm}"
    if model.stem_channels is not None or len(known.blocks) != 4:
        yield f"the stages of {model.name}"
    basic = not known.bottleneck
    if family == "torchvision" and known.preactivation:
        yield "pre-activation blocks"
    if family == "torchvision" and model.width != 1:
        yield f"width {model.width:g}"
    unlike_timm = model.stem != "imagenet" or (basic and not known.preactivation)
    if family == "timm" and unlike_timm:
        yield "basic blocks or a small stem"
    if basic and model.shortcuts == "every_group":
        yield "a projection in the first block"
