"""The settings of each protocol: frozen dataclasses. Dense tasks have their own.

The string under a field is its help text. P1 is the BYOL paper (arXiv 2006.07733).
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from byol_bnfree.config import KNN_K, KNN_TEMPERATURE

KernelLengths = Literal["kept", "initial"]


def described(settings: Any) -> dict[str, Any]:
    """Return the settings as a stored result names them.

    A setting that came later is not named where it has its default, because earlier
    results had the same.
    """
    later = {"kernel_lengths": "kept", "further_rates": 0}
    fields = dataclasses.asdict(settings)
    return {
        name: value
        for name, value in fields.items()
        if name not in later or value != later[name]
    }


@dataclass(frozen=True)
class KnnSettings:
    """The weighted nearest-neighbour classifier (arXiv 1805.01978, section 3.4)."""

    k: int = KNN_K
    """Number of neighbours that vote."""
    temperature: float = KNN_TEMPERATURE
    """The vote of a neighbour has the weight exp(cosine / temperature)."""


@dataclass(frozen=True)
class LinearSettings:
    """Linear evaluation: SGD on a frozen encoder (P1 appendix C.1)."""

    epochs: float = 80.0
    """Passes over the training images."""
    batch_size: int = 1024
    """Images per step."""
    rates: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1, 0.05)
    """Learning rates for a batch of 256 (scaled by batch_size / 256). Held-out images
    choose one."""
    augmentation: Literal["crops", "pretraining"] = "crops"
    """crops: random crops and flips. pretraining: view 1 of the run (P1 Table 7)."""
    logit_clip: Annotated[bool, tyro.conf.arg(aliases=["--logit-clip"])] = False
    """Squash logits to +/-20 and penalize their squares (P1 Table 7)."""
    held_out: int | None = None
    """Training images that are held out to choose the rate; the seed draws them (P1:
    10,009; DeepMind's code: 10,000). None: a tenth."""
    refit: bool = False
    """Fit again on all training images with the chosen rate, as DeepMind does."""


@dataclass(frozen=True)
class SemiSettings:
    """Fine-tuning of the whole network with few labels (P1 appendix C.1)."""

    shares: tuple[float, ...] = (0.01, 0.1)
    """Shares of the training images that keep their labels, equal in every class."""
    rates: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.005)
    """Learning rates for a batch of 256 (scaled by batch_size / 256). Held-out images
    choose one."""
    epochs: tuple[float, ...] = (30.0, 50.0)
    """Passes over the labelled images. Held-out images choose one."""
    batch_size: int = 1024
    """Images per step."""
    kernel_lengths: KernelLengths = "kept"
    """L2 norms of the encoder's kernels when a fit begins. kept: as they are. initial:
    rescaled to those with which this package initializes them. The outputs stay the
    same. SGD then changes the kernels as fast as newly initialized ones."""


@dataclass(frozen=True)
class FinetuneSettings:
    """Fine-tuning of the whole network with all labels (P1 appendix D.3)."""

    steps: int = 20_000
    """Optimizer steps of each fit."""
    batch_size: int = 256
    """Images per step."""
    rates: tuple[float, ...] = (1e-4, 3.2e-4, 1e-3, 3.2e-3, 1e-2, 3.2e-2, 1e-1)
    """Learning rates for a batch of 256 (scaled by batch_size / 256). Held-out images
    choose one."""
    weight_decays: tuple[float, ...] = (
        *(0.0, 1e-6, 3.2e-6, 1e-5, 3.2e-5),
        *(1e-4, 3.2e-4, 1e-3),
    )
    """Weight decays; each is divided by the learning rate. Held-out images choose
    one."""
    kernel_lengths: KernelLengths = "kept"
    """L2 norms of the encoder's kernels when a fit begins. kept: as they are. initial:
    rescaled to those with which this package initializes them. The outputs stay the
    same. SGD then changes the kernels as fast as newly initialized ones."""


@dataclass(frozen=True)
class SupervisedSettings:
    """The same network trained with labels from scratch (recipe of P1 Table 9)."""

    epochs: float = 200.0
    """Passes over the training images."""
    rate: float = 0.1
    """Learning rate for a batch of 256 (our choice; P1 does not state it)."""
    weight_decay: float = 1e-4
    """Weight decay of kernels."""
    warmup_epochs: float = 5.0
    """Epochs in which the learning rate rises linearly from 0."""
    label_smoothing: float = 0.1
    """Probability that is spread equally over all classes."""
    batch_size: int = 256
    """Images per step."""


@dataclass(frozen=True)
class TransferSettings:
    """Transfer to other data sets (P1 appendix D)."""

    method: Literal["linear_cached", "finetune"] = "linear_cached"
    """Logistic regression on stored features, or fine-tuning of the whole network."""
    datasets: tuple[str, ...] = ()
    """Names among the paper's twelve, such as cifar100 dtd. None given: all ten that
    tensorflow-datasets has."""
