"""CIFAR-10 in one hour on two CPU cores with the cpu extra: 64 epochs.

    python -m byol_bnfree.data prepare cifar10 --data-dir=DIR
    python -m byol_bnfree.train --config=configs/cifar10_cpu_hour.py --data-dir=DIR \\
        --norm=gn_ws

This is cifar10_cpu.py with as many epochs as fit. At 940 images/s the training takes 57
minutes, and compiling and evaluating take one or two. It has two views, because four
views were 1.3 points behind in the same time (experiments/views, gn_ws, one seed). With
gn_ws it reaches 67.4 % linear accuracy (seed 0, experiments/norm_comparison). bn has
not been run at this length.
"""

from byol_bnfree.config import Norm, TrainConfig
from byol_bnfree.config_files import load_config


def get_config(*, norm: Norm = "gn_ws") -> TrainConfig:
    """Train for 64 epochs with the weight decay of long runs."""
    return load_config("cifar10_cpu:64", norm)
