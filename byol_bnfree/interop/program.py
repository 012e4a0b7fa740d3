"""Uses a program of `jax.export` as an encoder module."""

import hashlib
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jax import export
from jaxtyping import Array, Float

from byol_bnfree.errors import InputError

PROGRAM_SUFFIX = ".stablehlo"
FIXED = (
    "an encoder in a StableHLO program can neither be trained nor show its stages, and "
    "is no Flax module; load its work folder or its safetensors file."
)


class ProgramModule:
    """Called like the Linen module of an encoder. It cannot be trained.

    The program contains the weights and the normalization of pixels.
    """

    def __init__(self, path: Path):
        data = path.read_bytes()
        digest = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
        self.identity = {"program": digest}
        """Stands in for the variables and distinguishes programs."""
        try:
            self._program = export.deserialize(bytearray(data))
        except Exception as error:  # of flatbuffers, any kind
            raise InputError(
                f"{path} is not a program of jax.export ({str(error)[:100]}); write it "
                f"again with `python -m byol_bnfree.export --format=stablehlo`."
            ) from error

    def apply(
        self,
        variables: Any,
        pixels: Float[Array, "b h w c"],
        train: bool = False,
        **options: Any,
    ) -> Float[Array, "b d"]:
        """Compute representations of pixels in [0, 1]; see `identity` for variables.

        Raises:
          InputError: in training, for options of Linen, or images of another size.
        """
        if train or options:
            raise InputError(FIXED)
        (wanted,) = self._program.in_avals
        if pixels.shape[1:] != wanted.shape[1:]:
            raise InputError(
                f"images [h w c] are {pixels.shape[1:]}, but the StableHLO program "
                f"takes {wanted.shape[1:]}; resize them, or load the encoder's work "
                f"folder or its safetensors file."
            )
        return self._program.call(pixels)

    def with_output_stride(self, output_stride: int | None) -> NoReturn:
        """Refuse: a program has one stride, and shows no maps."""
        raise InputError(FIXED)
