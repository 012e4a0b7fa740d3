"""Settings of the encoder and the heads."""

from dataclasses import dataclass
from typing import Literal

from byol_bnfree.settings.names import Network


@dataclass(frozen=True)
class HeadConfig:
    """One MLP head: dense, norm, ReLU, dense (P1 section 3.1)."""

    hidden: int = 4096
    """Width of the hidden layers."""
    out: int = 256
    """Width of the output. Projector and predictor must agree."""
    depth: int = 2
    """Number of dense layers, 1 to 3 (P1 Table 14a)."""
    output_bias: bool = False
    """Give the last dense layer a bias. P1's pseudo-code has it, its code does not."""
    plain_dense: tuple[int, ...] = ()
    """Dense layers (counted from 1) that are not standardized in gn_ws and ws."""


@dataclass(frozen=True)
class ModelConfig:
    """Encoder, heads, and details of the normalizations."""

    name: Network = "resnet14"
    """Encoder. resnet8, 14, 20 and 56 are the three-stage CIFAR networks. v2: norm and
    ReLU before each convolution (arXiv 1603.05027, BiT); P1 and P2 use v1."""
    width: float = 1.0
    """Factor on the channels of every layer; may be a fraction."""
    stem: Literal["imagenet", "small"] = "imagenet"
    """imagenet: 7x7 stride 2 and max-pool. small: 3x3, no pool."""
    stem_stride: Literal[1, 2] = 1
    """Stride of the small stem; 2 quarters the cost of the network."""
    stem_channels: int | None = None
    """Channels of the first convolution. None: from the network and width."""
    padding: Literal["same", "torch", "solo_learn", "bit"] = "same"
    """same: as in DeepMind's code. torch: symmetric, for weights from or to PyTorch.
    solo_learn: like torch, with one more pixel around the images in a small stem.
    bit: like torch, with zeros around the max-pool (BiT)."""
    shortcuts: Literal["every_group", "changed_shape"] = "every_group"
    """Blocks with a projection shortcut: the first of every group (DeepMind), or only
    blocks that change the shape."""
    projector: HeadConfig = HeadConfig(hidden=512, out=128)
    """MLP from representation to projection."""
    predictor: HeadConfig = HeadConfig(hidden=512, out=128)
    """MLP from projection to prediction, in the online network only."""
    predictor_start: Literal["drawn", "identity"] = "drawn"
    """identity: a predictor of one plain dense layer starts as the identity."""
    groups: int = 16
    """Largest number of groups in GroupNorm (gn, gn_ws). P2 does not state a number."""
    min_group_channels: int = 16
    """Smallest number of channels in a GroupNorm group. Groups of few channels remove
    contrast and colour in the first layers."""
    standardize_conv: bool = True
    """gn_ws and ws: standardize the kernels of convolutions."""
    unit_kernels: bool = False
    """gn_ws: standardized kernels of convolutions have variance 1 (arXiv 1903.10520,
    BiT) instead of 1 / fan_in. In v1 networks, norms cancel the difference."""
    standardize_dense: bool = True
    """gn_ws and ws: standardize the kernels of the heads' dense layers (our choice)."""
    last_scale_init: float = 1.0
    """Initial scale of a bottleneck block's last norm (P1: 1; DeepMind's code: 0)."""
