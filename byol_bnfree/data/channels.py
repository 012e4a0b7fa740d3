"""The channels of a set: mean and deviation, and whether they are colours."""

import numpy as np

from byol_bnfree.config import AugmentConfig
from byol_bnfree.data.check import in_chunks
from byol_bnfree.data.names import some
from byol_bnfree.data.sources import Source
from byol_bnfree.errors import InputError

SAMPLE = 2048  # training pictures that are measured
DIGITS = 5  # so that a resumed run finds the same numbers on another machine
Moments = tuple[tuple[float, ...], tuple[float, ...]]


def channel_moments(source: Source) -> Moments:
    """Mean and deviation of every channel on the [0, 1] scale.

    Over all pixels of the training pictures, or of 2,048 at equal distances.

    Raises:
      InputError: a channel with one value in all of them, or no good picture.
    """
    rows = np.unique(np.linspace(0, len(source) - 1, SAMPLE).astype(int))
    tried, rows = len(rows), source.usable(rows)
    if not len(rows):
        raise InputError(
            f"all {tried:,} pictures whose channels were to be measured are bad "
            f"({some(source.skipped)}); repair them, or give --augment.mean and "
            f"--augment.std."
        )
    total, squares, count = 0.0, 0.0, 0
    for chosen in in_chunks(source, rows):
        # float64, because E[x^2] - E[x]^2 loses digits.
        pixels = source.images(chosen).astype(np.float64) / 255
        total = total + pixels.sum((0, 1, 2))
        squares = squares + np.square(pixels).sum((0, 1, 2))
        count += pixels[..., 0].size
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
    constant = np.flatnonzero(deviation < 10.0**-DIGITS)
    if len(constant):
        raise InputError(
            f"channel {constant[0]} has one value in all pictures, so its "
            f"deviation is 0; leave it out of the files, or give "
            f"--augment.mean and --augment.std."
        )
    rounded = [tuple(round(float(x), DIGITS) for x in xs) for xs in (mean, deviation)]
    return rounded[0], rounded[1]


def channel_notes(
    augment: AugmentConfig, channels: int, moments: Moments | None
) -> list[str]:
    """Sentences on what the channels change; `InputError` for means that do not fit."""
    if moments is None and len(augment.mean) not in (3, channels):
        raise InputError(
            f"--augment.mean has {len(augment.mean)} numbers and the pictures have "
            f"{channels} channels; give one for each, or --augment.measured."
        )
    notes = []
    views = (augment.view1, augment.view2)
    coloured = any(
        view.grayscale or (view.jitter and (view.saturation or view.hue))
        for view in views
    )
    plain = channels != 3 or not augment.colours
    if plain and coloured and augment.function is None:
        notes.append(
            f"{channels} channel{'s that are not colours' * (channels > 1)}"
            f"{' that is not a colour' * (channels == 1)}: "
            f"saturation, hue and grayscale are left out; brightness, contrast, blur "
            f"and solarize act on every channel"
        )
    if moments is not None:
        mean, deviation = (" ".join(f"{x:.3f}" for x in xs) for xs in moments)
        notes.append(f"measured mean {mean} and deviation {deviation} of the channels")
        given, usual = ((a.mean, a.std) for a in (augment, AugmentConfig()))
        if given not in (usual, moments):
            notes.append(
                "--augment.mean and --augment.std have no effect: --augment.measured "
                "replaces them"
            )
    return notes
