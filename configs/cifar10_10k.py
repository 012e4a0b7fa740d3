"""10,000 CIFAR-10 images on two CPU cores, 8 epochs in minutes: for comparing settings.

    python -m byol_bnfree.data prepare cifar10 --data-dir=DIR
    python -m byol_bnfree.train --config=configs/cifar10_10k.py --data-dir=DIR --norm=bn

The cpu scale of `python -m experiments`: resnet8 of 32, 64, 128 channels, the rest as
in configs/cifar10_cpu.py. Classifiers are fitted on the same 10,000 images and tested
on the 10,000 of the test split. The last 5,000 training images are not used: settings
are chosen on them.
"""

import dataclasses
from pathlib import Path

from byol_bnfree import TrainConfig, load_config


def get_config() -> TrainConfig:
    """312 steps of 256 images."""
    config = load_config(str(Path(__file__).with_name("cifar10_cpu.py")))
    replace = dataclasses.replace
    return replace(
        config,
        model=replace(config.model, name="resnet8", width=2.0),
        data=replace(config.data, train_split="train[:10000]"),
        evaluation=replace(config.evaluation, knn_every_epochs=2.0),
        run=replace(config.run, log_every=8, keep=1),
    )
