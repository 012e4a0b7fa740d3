"""Names that settings choose from: norms, objectives, networks. And the papers."""

from typing import Literal, get_args

PAPERS = (
    "P1 is the BYOL paper, arXiv 2006.07733. P2 is the paper on BYOL without batch "
    "statistics, arXiv 2010.10241."
)
"""The short names of the papers in docstrings and help texts."""
Norm = Literal["bn", "gn_ws", "gn", "ws", "ln", "none"]
"""Name of a normalization; see the table in `models.norm`."""
NORMS: tuple[Norm, ...] = get_args(Norm)
GROUPED: frozenset[Norm] = frozenset({"gn", "gn_ws"})
"""Norms whose groups of channels are a setting."""
STANDARDIZED: frozenset[Norm] = frozenset({"gn_ws", "ws"})
"""Norms that standardize the kernels."""
TargetInit = Literal["independent", "copy"]
ObjectiveName = Literal[
    "byol", "infonce", "simsiam", "moco_v2", "barlow_twins", "rotation"
]
"""Name of an objective; see the table in docs/objectives.md."""
TURNS = 4
"""Outputs of the predictor in rotation: 0, 90, 180 and 270 degrees."""
Network = Literal[
    "resnet8",
    "resnet14",
    "resnet20",
    "resnet56",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet200",
    "resnet8v2",
    "resnet14v2",
    "resnet20v2",
    "resnet56v2",
    "resnet18v2",
    "resnet34v2",
    "resnet50v2",
    "resnet101v2",
    "resnet152v2",
    "resnet200v2",
]
