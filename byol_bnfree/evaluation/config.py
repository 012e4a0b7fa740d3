"""Every setting of an evaluation: frozen dataclasses, checked when made.

The string under a field is its help text (unit and meaning).
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from byol_bnfree.config import KNN_K, KNN_TEMPERATURE
from byol_bnfree.errors import InputError, flag

Protocol = Literal[
    "knn",
    "linear",
    "linear_cached",
    "semi_supervised",
    "finetune",
    "supervised",
    "robustness",
    "transfer",
    "random",
]

MAY_BE_ZERO = frozenset(
    ["seed", "weight_decay", "weight_decays", "warmup_epochs", "label_smoothing"]
)


@dataclass(frozen=True)
class KnnSettings:
    """The weighted nearest-neighbour classifier (arXiv 1805.01978, section 3.4)."""

    k: int = KNN_K
    """Neighbours that vote."""
    temperature: float = KNN_TEMPERATURE
    """A neighbour's weight is exp(cosine / temperature)."""


@dataclass(frozen=True)
class LinearSettings:
    """SGD on a frozen encoder (P1 appendix C.1)."""

    epochs: float = 80.0
    """Passes over the training images."""
    batch_size: int = 1024
    """Images per step."""
    rates: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1, 0.05)
    """Learning rates, times batch_size / 256; chosen on held-out images."""
    augmentation: Literal["crops", "pretraining"] = "crops"
    """crops: random crops and flips. pretraining: the run's view 1 (P1 Table 7)."""
    logit_clip: Annotated[bool, tyro.conf.arg(aliases=["--logit-clip"])] = False
    """Squash logits to +/-20 and penalize their squares (P1 Table 7)."""
    held_out: int | None = None
    """Training images that choose the rate, drawn by the seed (P1: 10,009; DeepMind's
    code: 10,000); none: a tenth."""
    refit: bool = False
    """Fit the chosen rate again on all training images, as DeepMind's code does."""


@dataclass(frozen=True)
class SemiSettings:
    """The whole network fine-tuned on a share of the labels (P1 appendix C.1)."""

    shares: tuple[float, ...] = (0.01, 0.1)
    """Shares of the training images that keep their label, alike in every class."""
    rates: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.005)
    """Learning rates, times batch_size / 256; chosen on held-out images."""
    epochs: tuple[float, ...] = (30.0, 50.0)
    """Passes over the labelled images; chosen on held-out images."""
    batch_size: int = 1024
    """Images per step."""


@dataclass(frozen=True)
class FinetuneSettings:
    """The whole network fine-tuned on all labels (P1 appendix D.3)."""

    steps: int = 20_000
    """Optimizer steps of each fit."""
    batch_size: int = 256
    """Images per step."""
    rates: tuple[float, ...] = (1e-4, 3.2e-4, 1e-3, 3.2e-3, 1e-2, 3.2e-2, 1e-1)
    """Learning rates, times batch_size / 256; chosen on held-out images."""
    weight_decays: tuple[float, ...] = (
        *(0.0, 1e-6, 3.2e-6, 1e-5, 3.2e-5),
        *(1e-4, 3.2e-4, 1e-3),
    )
    """Decays, each divided by the learning rate; chosen on held-out images."""


@dataclass(frozen=True)
class SupervisedSettings:
    """The same network trained with labels from scratch (P1 Table 9's recipe)."""

    epochs: float = 200.0
    """Passes over the training images."""
    rate: float = 0.1
    """Learning rate, times batch_size / 256 (ours: P1 does not state it)."""
    weight_decay: float = 1e-4
    """Decay of kernels."""
    warmup_epochs: float = 5.0
    """Linear warm-up of the learning rate from 0."""
    label_smoothing: float = 0.1
    """Share of the target spread over all classes."""
    batch_size: int = 256
    """Images per step."""


@dataclass(frozen=True)
class TransferSettings:
    """Other data sets (P1 appendix D)."""

    method: Literal["linear_cached", "finetune"] = "linear_cached"
    """Logistic regression on cached features, or the whole network fine-tuned."""
    datasets: tuple[str, ...] = ()
    """Names out of the paper's twelve, such as cifar100 dtd; none: all."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluate what a run has learned."""

    workdir: str
    """Folder of the run; figures are added to its evaluations.jsonl."""
    protocol: tuple[Protocol, ...] = ("knn", "linear_cached", "random")
    """The protocols to run; random repeats the others on the untrained encoder."""
    network: Literal["online", "target"] = "online"
    """The papers evaluate the online network."""
    dataset: str | None = None
    """shapes, a tensorflow-datasets name, or folder:PATH; none: the run's."""
    data_dir: str | None = None
    """Root of prepared tensorflow-datasets; none: the run's."""
    train_split: str | None = None
    """Split that classifiers are fitted on; none: the run's, of another set train."""
    test_split: str | None = None
    """Split that figures are of; none: the run's, of another set test."""
    unlabelled: Annotated[bool, tyro.conf.arg(name="data.unlabelled")] = False
    """folder: take all pictures as pictures without a class, for --plot."""
    on_bad_image: Literal["stop", "skip"] | None = None
    """stop at an image that cannot be decoded, or skip it; none: as the run did."""
    max_train: int | None = None
    """Training images used at most, a subset fixed by the seed; none: all."""
    max_test: int | None = None
    """Test images used at most; none: all."""
    seed: int = 0
    """Seed of held-out images, subsets, augmentation and initialization."""
    batch_size: int = 512
    """Images per step when features are extracted."""
    half_precision: bool = False
    """Keep features as float16: half the memory and disk."""
    plot: bool = False
    """Also draw embedding.png, confusion.png and neighbours.png in the work folder;
    of pictures without classes embedding.png and neighbours.png alone."""
    save: bool = False
    """Keep fitted classifiers and fine-tuned networks in evaluation/classifiers, for
    `python -m byol_bnfree.predict`."""
    again: bool = False
    """Measure again what evaluations.jsonl holds already."""
    weights: str | None = None
    """Evaluate this file of weights, not the run; --workdir is then any folder."""
    knn: KnnSettings = KnnSettings()
    """Nearest neighbours."""
    linear: LinearSettings = LinearSettings()
    """The papers' linear evaluation."""
    semi: SemiSettings = SemiSettings()
    """Few labels."""
    finetune: FinetuneSettings = FinetuneSettings()
    """All labels, from the pre-trained network."""
    supervised: SupervisedSettings = SupervisedSettings()
    """All labels, from scratch."""
    transfer: TransferSettings = TransferSettings()
    """Other data sets."""

    def __post_init__(self):
        _require_positive("", self)
        if max(self.semi.shares) > 1:
            raise InputError(
                f"--semi.shares has {max(self.semi.shares)}; a share of the labels is "
                f"at most 1, such as 0.01."
            )
        if self.supervised.label_smoothing >= 1:
            raise InputError(
                f"--supervised.label-smoothing is {self.supervised.label_smoothing}; "
                f"it must be less than 1."
            )


def _require_positive(prefix: str, settings: Any) -> None:
    """Every number is positive; those in MAY_BE_ZERO may be 0."""
    for field in dataclasses.fields(settings):
        name, value = prefix + field.name, getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            _require_positive(f"{name}.", value)
            continue
        values = value if isinstance(value, tuple) else (value,)
        if not values and field.default != ():
            raise InputError(f"{flag(name)} is empty; give at least one value.")
        for number in values:
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            zero = number == 0 and field.name in MAY_BE_ZERO
            if not (math.isfinite(number) and (number > 0 or zero)):
                allowed = "zero or more" if field.name in MAY_BE_ZERO else "positive"
                raise InputError(f"{flag(name)} is {number}; it must be {allowed}.")
