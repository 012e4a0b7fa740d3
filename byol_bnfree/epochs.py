"""Conversion from epochs to optimizer steps."""

import math
from fractions import Fraction

_ROUNDING = 1 + Fraction(1, 2**50)  # four times the rounding error of a float


def whole_steps(epochs: float, num_examples: int, batch_size: int) -> int:
    """Return the whole batches of `batch_size` in `epochs` passes over the images.

    `epochs` counts as the decimal number that was written: 4.1 epochs of 1,000 images
    are 4,100 images. Floating-point multiplication gives a little less, and one step
    would be lost. `epochs` may also be a rounded quotient, such as 16 / 48.
    """
    steps = Fraction(str(float(epochs))) * num_examples / batch_size
    return math.floor(steps * _ROUNDING)
