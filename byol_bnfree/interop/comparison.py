"""Compares both sides of an export on the same 64 pictures."""

import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from byol_bnfree.config import TrainConfig, height_and_width
from byol_bnfree.errors import InputError, RunStopped, why_not_read
from byol_bnfree.files import last_json

COUNT = 64  # pictures that pass through both sides
TOLERANCE = 1e-4
"""Relative to the largest feature. Rounding of two frameworks stays near 1e-6."""
SCRIPTS = Path(__file__).parent / "for_torch"


class Comparison(NamedTuple):
    """The difference between the features of both sides."""

    largest: float
    """Largest absolute difference between two features."""
    scale: float
    """Largest feature, in absolute value."""
    other: str
    """Name of the program that computed the other side."""

    @property
    def relative(self) -> float:
        """Largest difference, relative to the largest feature.

        If all features are 0, it is 0 without a difference and infinite with one.
        """
        if self.scale == 0:
            return 0.0 if self.largest == 0 else math.inf
        return self.largest / self.scale

    def check(self, tolerance: float = TOLERANCE) -> None:
        """Raise `RunStopped` if the difference is above the tolerance."""
        if not self.relative <= tolerance:
            raise RunStopped(
                f"the exported encoder differs from the trained one by "
                f"{self.relative:.1e} of the largest feature ({self.other}), but only "
                f"{tolerance:g} is allowed; do not use the files, and report this."
            )

    def __str__(self) -> str:
        return (
            f"{COUNT} pictures, {self.other}: largest difference {self.largest:.1e} "
            f"({self.relative:.1e} of the largest feature)"
        )


def pictures(config: TrainConfig) -> UInt8[np.ndarray, "b h w c"]:
    """Make 64 pictures of coarse and fine noise, in the encoder's input size."""
    height, width = height_and_width(config.data.image_size or 32)
    channels = config.data.channels or 3
    draws = np.random.default_rng(2010_10241)
    coarse = draws.uniform(0, 200, (COUNT, 4, 4, channels))
    repeated = np.repeat(np.repeat(coarse, -(-height // 4), 1), -(-width // 4), 2)
    fine = draws.uniform(0, 55, (COUNT, height, width, channels))
    return (repeated[:, :height, :width] + fine).astype(np.uint8)


def compared(
    ours: Float[np.ndarray, "b d"], theirs: Float[np.ndarray, "b d"], other: str
) -> Comparison:
    """Compare the features of both sides.

    A missing or NaN feature counts as infinite.
    """
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    largest = np.inf
    if ours.shape == theirs.shape and np.isfinite(theirs).all():
        largest = float(np.abs(ours - theirs).max())
    return Comparison(largest, float(np.abs(ours).max()), other)


def features_in_parts(
    encode: Callable[[Any], Any], images: UInt8[np.ndarray, "b h w c"]
) -> Float[np.ndarray, "b d"]:
    """Compute the features of all pictures, sixteen at a time."""
    parts = [np.asarray(encode(images[i : i + 16])) for i in range(0, len(images), 16)]
    return np.concatenate(parts)


def check_python(kind: str, python: str | None) -> None:
    """Raise `InputError` if an interpreter does not exist or lacks a package.

    Args:
      kind: torch, torchvision or timm.
      python: the interpreter; None if nothing is compared.
    """
    if python is None:
        return
    needed = {"torch", "numpy", kind}
    # `find_spec` imports nothing: PyTorch takes seconds to import.
    program = (
        "from importlib.util import find_spec as find; "
        f"print(*(n for n in {sorted(needed)} if not find(n)))"
    )
    try:
        done = subprocess.run([python, "-c", program], capture_output=True, text=True)
    except OSError as error:
        raise InputError(
            f"--python is {python!r}, which cannot be run ({why_not_read(error)}); "
            f"give --python=PATH of a Python with {kind}, or --no-compare."
        ) from None
    missing = done.stdout.split()
    if done.returncode or missing:
        what = " and ".join(missing) or "a Python that runs"
        raise InputError(
            f"the export is compared in {kind}, but {python} does not have {what}; "
            f"give --python=PATH of a Python that has it, or --no-compare."
        )


def features_in_torch(
    kind: str, weights: Path, images: UInt8[np.ndarray, "b h w c"], python: str
) -> tuple[Float[np.ndarray, "b d"], str]:
    """Compute features with `for_torch/features.py` in another Python.

    Args:
      kind: torch, torchvision or timm.
      weights: a safetensors file with the names of that kind.
      images: input of the encoder.
      python: an interpreter with torch, and with torchvision or timm if needed.

    Returns:
      The features, and the names and versions of the packages.

    Raises:
      RunStopped: if the network does not run there.
    """
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "pictures.npy", images)
        shutil.copy(weights, Path(folder) / "encoder.safetensors")
        command = [python, str(SCRIPTS / "features.py"), kind, folder]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RunStopped(f"the exported weights do not run in {kind}: {last[:300]}")
        features = np.load(Path(folder) / "features.npy", allow_pickle=False)
        versions = last_json(done.stdout)
    return features, ", ".join(f"{name} {v}" for name, v in versions.items())
