"""`python -m byol_bnfree.export`: a trained encoder for other frameworks."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tyro

from byol_bnfree.command_line import exit_on_error


@dataclass(frozen=True)
class ExportConfig:
    """Write a trained encoder for other frameworks, and compare both sides."""

    workdir: str
    """Folder of the run, or any file of weights that `load_encoder` reads."""
    format: Literal["safetensors", "torch", "stablehlo", "hub-folder"] = "safetensors"
    """safetensors: weights. torch: a short PyTorch program, with weights.
    stablehlo: a program for CPU, CUDA and TPU. hub-folder: what the Hub expects."""
    names: Literal["byol_bnfree", "torchvision", "timm"] = "byol_bnfree"
    """safetensors: whose names; torchvision's are those of timm's resnet50 too."""
    network: Literal["online", "target"] = "online"
    """The papers evaluate the online network."""
    out: str | None = None
    """Folder to write; none: export/FORMAT in the work folder."""
    name: str | None = None
    """hub-folder: name of the model; none: from data set, network, norm and seed."""
    licence: str | None = None
    """Licence of the weights, such as apache-2.0; none: that of their source."""
    python: str = sys.executable
    """A Python that has torch (and torchvision or timm, for their names)."""
    compare: bool = True
    """Pass 64 pictures through PyTorch too; --no-compare where it is not installed."""
    tolerance: float = 1e-4
    """Largest difference allowed, as a share of the largest feature."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, write, compare, print; see `--help`."""
    config = tyro.cli(
        ExportConfig,
        args=sys.argv[1:] if argv is None else list(argv),
        prog="python -m byol_bnfree.export",
        description="Write a trained encoder for other frameworks.",
    )
    from byol_bnfree.interop.exporting import export  # after parsing: --help is quick

    for line in export(config):
        print(line, flush=True)


if __name__ == "__main__":
    exit_on_error(main)
