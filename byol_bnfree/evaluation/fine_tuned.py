"""The encoder that fine-tuning begins with, and the lengths of its kernels.

Muon makes kernels longer, and SGD turns long kernels slowly; see
`models.kernel_lengths`.
"""

from collections.abc import Iterator
from typing import Any

from byol_bnfree.encoder import Encoder
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.dense.tasks import TASKS
from byol_bnfree.evaluation.settings import KernelLengths
from byol_bnfree.models.kernel_lengths import median_growth

LONG = 2.0
"""From this growth on, a fit with the lengths as they are is worth a sentence."""


def start_of(encoder: Encoder, lengths: KernelLengths) -> Encoder:
    """Return the encoder that a fit begins with."""
    return encoder.with_initial_lengths() if lengths == "initial" else encoder


def note_on_lengths(config: EvaluateConfig, encoder: Encoder) -> str | None:
    """Return a sentence if long kernels will be fine-tuned as they are; else None.

    State dicts of other programs have step 0 and get no sentence. Their kernels began
    with other lengths, so the growth is not known.

    Raises:
      InputError: if initial lengths were asked for and no length is free.
    """
    groups = dict(_fine_tuned(config))
    try:
        growth = median_growth(encoder.module, encoder.variables) if groups else 1.0
    except InputError as error:
        for group, settings in groups.items():
            if settings.kernel_lengths == "initial":
                raise InputError(
                    f"--{group}.kernel-lengths=initial: {error}"
                ) from error
        return None
    kept = [g for g, settings in groups.items() if settings.kernel_lengths == "kept"]
    if growth < LONG or not kept or encoder.step == 0:
        return None
    flags = " ".join(f"--{group}.kernel-lengths=initial" for group in kept)
    return (
        f"the encoder's kernels have {growth:.1f} times the L2 norm with which this "
        f"package initializes them (median), so SGD changes their direction "
        f"{growth**2:.0f} times more slowly; {flags} rescales them, and the outputs "
        f"stay the same."
    )


def _fine_tuned(config: EvaluateConfig) -> Iterator[tuple[str, Any]]:
    """Yield the groups of settings whose fits train the pre-trained encoder."""
    asked = set(config.protocol)
    if "semi_supervised" in asked:
        yield "semi", config.semi
    transferred = "transfer" in asked and config.transfer.method == "finetune"
    if "finetune" in asked or transferred:
        yield "finetune", config.finetune
    for name in TASKS:
        settings = getattr(config, name)
        if name in asked and settings.encoder == "trained":
            yield name, settings
