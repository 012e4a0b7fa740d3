"""The settings of dense tasks. P1 is the BYOL paper (arXiv 2006.07733)."""

from dataclasses import dataclass
from numbers import Real
from typing import Literal

from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.settings import KernelLengths

RATES = (1e-3, 3.2e-3, 1e-2, 3.2e-2, 1e-1)  # five, with equal ratios (P1 appendix D.4)


@dataclass(frozen=True)
class DenseSettings:
    """How a dense task trains.

    Its defaults are those of the task's paper, unless a field says otherwise.
    """

    steps: int = 30_000
    """Optimizer steps of each fit. The rate falls tenfold at 70 % and at 90 %."""
    batch_size: int = 16
    """Pictures per step, over all devices."""
    rates: tuple[float, ...] = RATES
    """Learning rates. If there are several, held-out pictures choose one."""
    further_rates: int = 0
    """Rates that are tried in addition, one by one, while the best rate is the highest
    or the lowest. Each continues the ratio of the two rates at that end."""
    trial_steps: int | None = None
    """Steps of the fits that choose a rate. None: as many as the last fit."""
    warmup_steps: int = 0
    """Steps in which the rate rises from a third, at most a tenth of all steps."""
    weight_decay: float = 1e-4
    """Weight decay of kernels."""
    size: tuple[int, int] | None = None
    """Height and width of the window that is cut from each picture. None: P1's for
    segmentation and depth; 512 512 for detection (640 640 for COCO); 64 64 for the
    generated scenes."""
    scales: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest random scale in training."""
    resize: float | None = None
    """Scale of all pictures, in training and in tests. None: 0.5 for nyu_depth_v2, as
    in the paper, and 1 for others."""
    stride: int = 32
    """Largest total stride of the encoder. Its last stages have dilated kernels if
    their strides would exceed it."""
    encoder: Literal["trained", "frozen"] = "trained"
    """trained: the encoder is fine-tuned. frozen: only the head is trained."""
    kernel_lengths: KernelLengths = "kept"
    """L2 norms of the encoder's kernels when a fit begins. kept: as they are. initial:
    rescaled to those with which this package initializes them. The outputs stay the
    same. SGD then changes each kernel as fast as a new one."""
    norms: Literal["fine-tuned", "inference", "frozen"] = "fine-tuned"
    """Norms of the encoder. fine-tuned: scale and bias are trained, and BatchNorm uses
    the statistics of the batch. inference: they are trained, and BatchNorm uses its
    running statistics. frozen: neither changes. GroupNorm has no statistics of the
    batch, so there the first two are the same."""
    head: Literal["paper", "linear"] = "paper"
    """paper: the task's full head (FCN, up-projection or FCOS). linear: one linear
    layer on the last map."""

    def __post_init__(self):
        match self.scales:  # `check_settings` refuses what is no pair of numbers
            case (Real() as low, Real() as high) if low > high:
                raise InputError(
                    f"the scales of a dense task are {low:g} {high:g}; give the "
                    f"smallest first."
                )


@dataclass(frozen=True)
class SegmentationSettings(DenseSettings):
    """Semantic segmentation by an FCN (P1 appendix D.4, arXiv 1411.4038)."""

    scales: tuple[float, float] = (0.5, 2.0)
    """Smallest and largest random scale in training."""
    stride: int = 16
    """Largest total stride of the encoder. Its last stages have dilated kernels if
    their strides would exceed it."""
    width: int = 256
    """Channels of the head's two convolutions."""


@dataclass(frozen=True)
class DepthSettings(DenseSettings):
    """Depth by fast up-projection (P1 appendix D.6, arXiv 1606.00373)."""

    steps: int = 7_500
    """Optimizer steps of each fit. The rate falls tenfold at 70 % and at 90 %."""
    batch_size: int = 256
    """Pictures per step, over all devices."""
    rates: tuple[float, ...] = (0.16,)
    """Learning rates. If there are several, held-out pictures choose one."""
    weight_decay: float = 5e-4
    """Weight decay of kernels."""
    by_scale: bool = True
    """Divide the depth by the random scale: a larger picture looks nearer."""
    crop: Literal["random", "central"] = "random"
    """Where the training window lies in its picture. central: at the centre, as P1's
    of 228 x 304. random: anywhere."""
    colour: bool = True
    """Also draw grayscale, brightness, saturation and hue, as P1 does. Pictures whose
    channels are not colours keep theirs."""


@dataclass(frozen=True)
class DetectionSettings(DenseSettings):
    """Detection by FCOS (arXiv 1904.01355), instead of P1's Faster R-CNN (D.5)."""

    steps: int = 90_000
    """Optimizer steps of each fit. The rate falls tenfold at 70 % and at 90 %."""
    rates: tuple[float, ...] = (1e-2,)
    """Learning rates. If there are several, held-out pictures choose one."""
    warmup_steps: int = 500
    """Steps in which the rate rises from a third, at most a tenth of all steps."""
    scales: tuple[float, float] = (1.0, 2.0)
    """Smallest and largest random scale in training. P1's longest edge is 480 to 1024
    pixels, and VOC's pictures have 500."""
    stride: int = 16
    """Largest total stride of the encoder. Its last stages have dilated kernels if
    their strides would exceed it."""
    tower_depth: int = 4
    """3x3 convolutions of each of the head's two towers."""
    tower_width: int = 256
    """Channels of the towers."""
