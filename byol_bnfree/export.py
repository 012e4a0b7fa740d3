"""`python -m byol_bnfree.export` writes a trained encoder for other frameworks."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.errors import InputError
from byol_bnfree.flags import cli
from byol_bnfree.interop.facts import Facts
from byol_bnfree.settings.types import check_types


@dataclass(frozen=True)
class ExportConfig:
    """Write a trained encoder for other frameworks, and compare its features."""

    workdir: str
    """Folder of a run, or any file of weights that `load_encoder` reads."""
    format: Literal["safetensors", "torch", "stablehlo", "hub-folder"] = "safetensors"
    """safetensors: weights only. torch: weights and a short PyTorch program.
    stablehlo: a program for CPU, CUDA and TPU. hub-folder: a folder for the Hugging
    Face Hub."""
    names: Literal["byol_bnfree", "torchvision", "timm"] = "byol_bnfree"
    """Names of the weights in safetensors. timm's resnet50 uses torchvision's."""
    network: Literal["online", "target"] = "online"
    """Network to export. BYOL's papers evaluate the online network."""
    out: str | None = None
    """Folder to write. None: export/FORMAT in the work folder, or export/NAMES for
    safetensors."""
    name: str | None = None
    """hub-folder: name of the model. None: data set, network, norm and seed."""
    licence: str | None = None
    """Licence of the weights, such as apache-2.0. None: that of their source."""
    python: str = sys.executable
    """A Python that has torch (and torchvision or timm, if you chose their names)."""
    compare: bool = True
    """Pass 64 pictures through both programs and compare the features. Use --no-compare
    if PyTorch is not installed."""
    tolerance: float = 1e-4
    """Largest allowed difference, relative to the largest feature."""
    facts: Facts = Facts()
    """What a file of weights of another program does not state."""

    def __post_init__(self):
        if not 0 <= self.tolerance < math.inf:
            raise InputError(
                f"--tolerance is {self.tolerance:g}; it must be zero or more, such as "
                f"1e-4."
            )
        check_types(self)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the flags, write the files, compare, and print. See `--help`."""
    config = cli(
        ExportConfig,
        args=argv,
        prog="python -m byol_bnfree.export",
        description="Write a trained encoder for other frameworks.",
    )
    from byol_bnfree.interop.exporting import export  # after parsing: --help is quick

    for line in export(config):
        print(line, flush=True)


def command() -> None:
    """`byol-export` and `python -m byol_bnfree.export`."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
