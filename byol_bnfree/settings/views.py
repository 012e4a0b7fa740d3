"""Settings of the views: how they are drawn, and how many."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ViewConfig:
    """Random image operations of one view (P1 Table 6)."""

    crop_area: tuple[float, float] = (0.08, 1.0)
    """Range of the crop's area, as a share of the image's area."""
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Range of the crop's width / height, drawn log-uniformly. It is multiplied by the
    width / height of the input."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    vertical_flip: float = 0.0
    """Probability of a vertical flip, for images without an upright position (not in
    P1)."""
    quarter_turn: float = 0.0
    """Probability of a turn by 90, 180 or 270 degrees. 0.75 makes all four orientations
    equally likely (not in P1)."""
    jitter: float = 0.8
    """Probability of colour jitter. All four operations are applied, or none."""
    brightness: float = 0.4
    """Largest additive change of brightness, on the scale [0, 1]."""
    contrast: float = 0.4
    """Largest deviation of the contrast factor from 1."""
    saturation: float = 0.2
    """Largest deviation of the saturation factor from 1."""
    hue: float = 0.1
    """Largest shift of hue, in turns."""
    grayscale: float = 0.2
    """Probability of converting to grayscale."""
    blur: float = 1.0
    """Probability of a Gaussian blur, with a kernel of a tenth of the image."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's standard deviation, in pixels."""
    solarize: float = 0.0
    """Probability of inverting pixels at or above the threshold."""
    solarize_threshold: float = 0.5
    """Threshold of solarization, on the scale [0, 1]."""


@dataclass(frozen=True)
class AugmentConfig:
    """The two views' distributions T and T', and pixel normalization."""

    view1: ViewConfig = ViewConfig()
    """The first view, T in P1."""
    view2: ViewConfig = ViewConfig(blur=0.1, solarize=0.2)
    """The second view, T' in P1."""
    function: str | None = None
    """FILE:FUNCTION that makes the views instead. It is called for each image as
    FUNCTION(key, image, view) with the uncropped image [h w c] in [0, 1] and view 1,
    2, ..."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Mean of each channel; subtracted after augmentation. Images without three
    channels use the average."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Standard deviation of each channel. The result is divided by it. Images without
    three channels use the average."""
    measured: bool = False
    """Measure mean and std on the training images, and use these instead."""
    colours: bool = True
    """Treat three channels as red, green and blue. Otherwise saturation, hue and
    grayscale are left out, as they are for other numbers of channels."""


@dataclass(frozen=True)
class ViewsConfig:
    """The number of views of an image, and the targets that they predict."""

    count: int = 2
    """Number of large views; 2 is BYOL. view1 and view2 draw them in turn."""
    targets: Literal["mean", "pairs"] = "mean"
    """mean: a view predicts the mean of the other large views' targets (FastSiam).
    pairs: it predicts each target separately, and the loss is the average over the
    pairs. With 2 views both are BYOL's loss."""
    small: int = 0
    """Number of small views. They pass through the online network only, and predict the
    targets of all large views."""
    small_size: int | None = None
    """Side of a small view in pixels. None: half the side of a large view."""
    small_area: tuple[float, float] = (0.05, 0.3)
    """Range of a small crop's area, as a share of the image's area, LOW HIGH."""
    small_predictor: Literal["shared", "own"] = "own"
    """own: small views have their own predictor. shared: they use the other one."""
    accumulate: bool = False
    """Pass one view at a time and sum the gradients. The gradient is the same, and the
    memory of activations does not grow with the number of views."""

    @property
    def plain(self) -> bool:
        """True for BYOL's two views, passed together."""
        return self.count == 2 and not self.small and not self.accumulate
