"""Settings that cannot be, found before any protocol has begun."""

import math

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.sources import Source
from byol_bnfree.encoder import Encoder
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.methods.transfer import chosen_tasks
from byol_bnfree.evaluation.methods.tuning import labelled_subset
from byol_bnfree.interop.program import ProgramModule


def check_protocols(
    config: EvaluateConfig, run: TrainConfig, train: Source, devices: int
) -> None:
    """`InputError` for a batch that cannot be cut, a class with too few images, or an
    unknown data set to transfer to.
    """
    asked = set(config.protocol)
    if "transfer" in asked:
        chosen_tasks(config.transfer.datasets)
        asked.add(config.transfer.method)
    # An encoder whose BatchNorm has groups keeps them when it is trained further.
    groups = run.bn_stat_groups // run.micro_batches or 1
    parts = {
        "linear": ("linear", devices),
        "semi_supervised": ("semi", math.lcm(devices, groups)),
        "finetune": ("finetune", math.lcm(devices, groups)),
        "supervised": ("supervised", math.lcm(devices, groups)),
    }
    for protocol, (name, pieces) in parts.items():
        size = getattr(config, name).batch_size
        if protocol in asked and size % pieces:
            raise InputError(
                f"--{name}.batch-size {size} cannot be cut over {devices} devices and "
                f"{groups} groups of BatchNorm; choose a multiple of {pieces}."
            )
    if "semi_supervised" in asked:
        for share in config.semi.shares:
            labelled_subset(train, share, config.seed)


FROZEN = ("knn", "linear", "linear_cached", "robustness")
"""Protocols that need nothing but features."""


def check_trainable(config: EvaluateConfig, encoder: Encoder) -> None:
    """`InputError` for what a StableHLO program cannot do: be trained or be fresh."""
    if not isinstance(encoder.module, ProgramModule):
        return
    rest = [name for name in config.protocol if name not in FROZEN]
    if "transfer" in rest and config.transfer.method == "linear_cached":
        rest.remove("transfer")
    if rest:
        raise InputError(
            f"protocol {rest[0]} needs weights, and {config.weights} is a program; "
            f"choose among {', '.join(FROZEN)}, or give the safetensors file."
        )
