"""Finds impossible settings before the first protocol begins."""

import math
from collections.abc import Iterable

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.prepared import data_root
from byol_bnfree.data.sources import Source
from byol_bnfree.encoder import Encoder
from byol_bnfree.epochs import whole_steps
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.config import FROM_FEATURES, EvaluateConfig, reads_features
from byol_bnfree.evaluation.dense.settings import DenseSettings
from byol_bnfree.evaluation.dense.tasks import TASKS
from byol_bnfree.evaluation.images.subset import hold_out
from byol_bnfree.evaluation.methods.transfer import check_sets
from byol_bnfree.evaluation.methods.tuning import labelled_subset
from byol_bnfree.evaluation.settings import SupervisedSettings
from byol_bnfree.interop.program import ProgramModule
from byol_bnfree.settings.norms import groups_of_micro_batch


def check_protocols(
    config: EvaluateConfig,
    protocols: Iterable[str],
    run: TrainConfig,
    train: Source,
    devices: int,
) -> None:
    """Raise `InputError` for settings that one of these protocols cannot use.

    These are a batch that cannot be divided, a class with too few images, more held-out
    images than there are, a warm-up that fills the training, and data sets for
    transfer that are unknown or not prepared.
    """
    asked = set(protocols)
    if "transfer" in asked:
        root = data_root(config.data_dir or run.data_dir)
        check_sets(config.transfer.datasets, root)
        asked.add(config.transfer.method)
    # When an encoder is trained further, its BatchNorm keeps its groups.
    groups = groups_of_micro_batch(run)
    parts = {
        "linear": ("linear", devices),
        "semi_supervised": ("semi", math.lcm(devices, groups)),
        "finetune": ("finetune", math.lcm(devices, groups)),
        "supervised": ("supervised", math.lcm(devices, groups)),
    }
    for name in TASKS:
        batches = _takes_statistics(getattr(config, name))
        parts[name] = name, math.lcm(devices, groups if batches else 1)
    for protocol, (name, pieces) in parts.items():
        size = getattr(config, name).batch_size
        if protocol in asked and size % pieces:
            raise InputError(
                f"--{name}.batch-size {size} cannot be split over {devices} devices "
                f"and {groups} groups of BatchNorm; choose a multiple of {pieces}."
            )
    if "linear" in asked:
        hold_out(len(train), config.seed, config.linear.held_out)
    if "supervised" in asked:
        _check_warmup(config.supervised, len(train))
    if "semi_supervised" in asked:
        for share in config.semi.shares:
            labelled_subset(train, share, config.seed)


def _takes_statistics(settings: DenseSettings) -> bool:
    """Return True if BatchNorm uses the statistics of a dense task's batch."""
    tuned = settings.encoder == "trained" and settings.norms == "fine-tuned"
    return tuned or settings.head != "linear"


def _check_warmup(settings: SupervisedSettings, images: int) -> None:
    warmup, total = (
        whole_steps(epochs, images, settings.batch_size)
        for epochs in (settings.warmup_epochs, settings.epochs)
    )
    if warmup and warmup >= total:
        raise InputError(
            f"--supervised.warmup-epochs {settings.warmup_epochs:g} is {warmup} steps, "
            f"but the training has {max(1, total)}; shorten the warm-up or give more "
            f"--supervised.epochs."
        )


def check_trainable(config: EvaluateConfig, encoder: Encoder) -> None:
    """Raise `InputError` if a protocol would train a StableHLO program."""
    if not isinstance(encoder.module, ProgramModule):
        return
    rest = [name for name in config.protocol if not reads_features(name, config)]
    if rest:
        possible = [name for name in FROM_FEATURES if reads_features(name, config)]
        raise InputError(
            f"protocol {rest[0]} needs weights, but {config.weights} is a program; "
            f"choose among {', '.join(possible)}, or give the safetensors file."
        )
