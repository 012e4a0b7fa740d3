"""CIFAR-10 on two CPU cores with the cpu extra: 64 epochs, 25 minutes to two hours.

    python -m byol_bnfree.data prepare cifar10 --data-dir=DIR
    python -m byol_bnfree.train --config=configs/cifar10_cpu_hour.py --data-dir=DIR \\
        --norm=gn_ws

This is cifar10_cpu.py with 64 epochs. Two idle cores of an AMD EPYC with AVX-512 train
2,200 images/s with gn_ws (log of a run at commit b05cc63, not kept), so 64 epochs take
25 minutes there, and 144 epochs (cifar10_cpu.py:144) about an hour. Two idle cores of
an Intel Xeon train 1,121 images/s with gn_ws and 1,063 with bn (steps alone, cost.json
of experiments/views at commit c4b21a5), so 64 epochs take 48 and 50 minutes. Two idle
cores of an AMD EPYC without AVX-512 train 464 and 437 images/s (today's cost.json,
commit 6a147b5) and need 115 and 122 minutes: take `--config=configs/cifar10_cpu.py:30`
there. Compiling and evaluating take one or two minutes.

It has two views. In 0.9 of the time four views (8.9 epochs) were 1.3 points behind two
(16 epochs) in linear accuracy, and 1.0 ahead in kNN (experiments/views: gn_ws, one
seed, weight decay 1e-5). At the length of this recipe only two views were tried. It
reaches 67.6 % linear accuracy with gn_ws and 66.9 % with bn (means of six seeds,
experiments/norm_comparison). 144 epochs reach 69.4 and 69.7 % (one seed).
"""

from byol_bnfree.config import Norm, TrainConfig
from byol_bnfree.config_files import load_config


def get_config(*, norm: Norm = "gn_ws") -> TrainConfig:
    """Train for 64 epochs with the weight decay of long runs."""
    return load_config("cifar10_cpu:64", norm)
