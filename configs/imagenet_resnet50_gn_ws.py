"""ImageNet, ResNet-50, GroupNorm + Weight Standardization: no batch statistics.

Source: arXiv 2010.10241, whose 73.9 % (against 74.3 % with BatchNorm) this is to
reproduce. The paper's code was never released and its settings are not public: these
are vanilla BYOL's (configs/imagenet_resnet50.py, same argument) with the norm changed
and the last scale of a block at 1, as BYOL's paper has it. 16 groups and the
standardization of the heads' dense kernels are our choices.

    python -m byol_bnfree.data prepare imagenet2012 --data-dir=DIR
    python -m byol_bnfree.train --config=configs/imagenet_resnet50_gn_ws.py:300 \\
        --data-dir=DIR

On few devices add --micro-batches=N: without batch statistics the result is the same.
Not run by this project.
"""

import dataclasses
from pathlib import Path

from byol_bnfree import TrainConfig, load_config


def get_config(epochs: str = "1000") -> TrainConfig:
    """Vanilla BYOL's preset for 40, 100, 300 or 1000 epochs with norm gn_ws."""
    vanilla = Path(__file__).with_name("imagenet_resnet50.py")
    config = load_config(f"{vanilla}:{epochs}")
    model = dataclasses.replace(config.model, last_scale_init=1.0)
    return dataclasses.replace(config, norm="gn_ws", model=model)
