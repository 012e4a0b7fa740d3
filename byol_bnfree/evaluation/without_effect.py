"""Names the settings of an evaluation that change nothing in it."""

from collections.abc import Iterator
from typing import Any

from byol_bnfree.errors import flag
from byol_bnfree.evaluation.bench import FITTING
from byol_bnfree.evaluation.config import EvaluateConfig, reads_features
from byol_bnfree.evaluation.dense.settings import DenseSettings
from byol_bnfree.evaluation.dense.tasks import TASKS

READERS = {
    "knn": "knn",
    "linear": "linear",
    "semi": "semi_supervised",
    "finetune": "finetune",
    "supervised": "supervised",
    "transfer": "transfer",
    **{name: name for name in TASKS},
}
"""The protocol that reads each group of settings."""
OF_TRIALS = ("trial_steps", "further_rates")
OF_HEADS = {"segmentation": ("width",), "detection": ("tower_depth", "tower_width")}
"""Settings of the papers' heads. A linear head has none of them."""


def without_effect(config: EvaluateConfig) -> str | None:
    """Return a sentence about the settings that change nothing; None without any.

    A setting counts if it differs from its default.
    """
    found = [
        f"--{name} has no effect: {why}"
        for name, why in (*_of_all(config), *_of_groups(config))
    ]
    return "; ".join(found) or None


def _of_all(config: EvaluateConfig) -> Iterator[tuple[str, str]]:
    asked = _asked(config)
    if config.save and not asked & {*FITTING}:
        yield "save", "no protocol that was asked for fits a classifier"
    if config.plot and asked <= {*TASKS}:
        yield "plot", "dense tasks draw their own pictures"
    stored = any(reads_features(name, config) for name in asked)
    if config.half_precision and not stored:
        yield "half-precision", "no protocol that was asked for stores features"
    if asked and asked <= {*TASKS}:
        yield from _of_pictures(config)


def _of_pictures(config: EvaluateConfig) -> Iterator[tuple[str, str]]:
    """Name the settings that only protocols on whole pictures read."""
    if config.on_bad_image == "skip":
        yield "on-bad-image", "dense tasks stop at a picture that cannot be decoded"
    if config.unlabelled:
        yield "data.unlabelled", "dense tasks read masks, depths or boxes, no classes"
    if config.batch_size != EvaluateConfig(config.workdir).batch_size:
        yield "batch-size", "each dense task has a batch size of its own"


def _of_groups(config: EvaluateConfig) -> Iterator[tuple[str, str]]:
    asked, plain = _asked(config), EvaluateConfig(config.workdir)
    for group, reader in READERS.items():
        settings, usual = getattr(config, group), vars(getattr(plain, group))
        for name in (k for k, value in vars(settings).items() if value != usual[k]):
            if reader not in asked:
                why = f"protocol {reader} was not asked for"
            else:
                why = _of_group(group, name, settings)
            if why is not None:
                yield flag(f"{group}.{name}")[2:], why


def _of_group(group: str, name: str, settings: Any) -> str | None:
    """Return why other settings of a group make this one change nothing."""
    if name in OF_TRIALS and len(settings.rates) == 1:
        return "one rate needs no trial"
    if name in OF_HEADS.get(group, ()) and settings.head == "linear":
        return "the head is linear"
    return _of_dense(name, settings) if group in TASKS else None


def _of_dense(name: str, settings: DenseSettings) -> str | None:
    """Return why another setting of a dense task makes this one change nothing."""
    if name == "norms" and settings.encoder == "frozen":
        return "the encoder is frozen, with its norms"
    if name == "kernel_lengths" and settings.encoder == "frozen":
        return "the encoder is frozen, and its outputs stay the same"
    if name == "by_scale" and settings.scales == (1.0, 1.0):
        return "all pictures have the scale 1"
    return None


def _asked(config: EvaluateConfig) -> set[str]:
    """Return the protocols that run. Transfer by fine-tuning reads its settings."""
    asked = {*config.protocol} - {"random"}
    tunes = "transfer" in asked and config.transfer.method == "finetune"
    return asked | ({"finetune"} if tunes else set())
