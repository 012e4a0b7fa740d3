"""From epochs to optimizer steps."""

import math
from fractions import Fraction

_ROUNDING = 1 + Fraction(1, 2**50)  # of a float, four times


def whole_steps(epochs: float, num_examples: int, batch_size: int) -> int:
    """Whole batches of `batch_size` in `epochs` passes over `num_examples` images.

    `epochs` is the decimal number that it is written as: 4.1 epochs of 1,000 images are
    4,100 images. As a product of floats they are a little less, and a step would be
    lost. It may also be a quotient, such as 16 / 48, rounded to a float.
    """
    steps = Fraction(str(float(epochs))) * num_examples / batch_size
    return math.floor(steps * _ROUNDING)
