"""The settings of an evaluation: frozen dataclasses that check their values.

The string under a field is its help text. P1 is the BYOL paper (arXiv 2006.07733).
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from byol_bnfree.config import KNN_K, KNN_TEMPERATURE
from byol_bnfree.errors import InputError, flag
from byol_bnfree.evaluation.dense.settings import (
    DepthSettings,
    DetectionSettings,
    SegmentationSettings,
)

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
    "segmentation",
    "depth",
    "detection",
]

MAY_BE_ZERO = frozenset(
    [
        *("seed", "weight_decay", "weight_decays"),
        *("warmup_epochs", "warmup_steps", "label_smoothing"),
    ]
)


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
    """Names among the paper's twelve, such as cifar100 dtd; nothing means all."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluate a trained encoder. P1 is the BYOL paper, arXiv 2006.07733."""

    workdir: str
    """Folder of the run. Results are added to its evaluations.jsonl."""
    protocol: tuple[Protocol, ...] = ("knn", "linear_cached", "random")
    """Protocols to run. random repeats the others on the untrained encoder."""
    network: Literal["online", "target"] = "online"
    """Network to evaluate. BYOL's papers evaluate the online network."""
    dataset: str | None = None
    """shapes, a tensorflow-datasets name, or folder:PATH. None: the run's."""
    data_dir: str | None = None
    """Root of prepared tensorflow-datasets. None: the run's."""
    train_split: str | None = None
    """Split to fit classifiers on. None: the run's; train for another data set."""
    test_split: str | None = None
    """Split to report on. None: the run's; test for another data set."""
    unlabelled: Annotated[bool, tyro.conf.arg(name="data.unlabelled")] = False
    """folder: ignore folders as classes and use all pictures, for --plot."""
    on_bad_image: Literal["stop", "skip"] | None = None
    """stop: end at a picture that cannot be decoded. skip: leave it out. None: as the
    run did."""
    max_train: int | None = None
    """Largest number of training images; the seed draws a subset. None: all."""
    max_test: int | None = None
    """Largest number of test images. None: all."""
    seed: int = 0
    """Seed for held-out images, subsets, augmentation and initialization."""
    batch_size: int = 512
    """Images per step while features are extracted."""
    half_precision: bool = False
    """Store features as float16. This halves memory and disk space."""
    plot: bool = False
    """Also draw embedding.png, confusion.png and neighbours.png in the work folder.
    Without classes there is no confusion.png."""
    save: bool = False
    """Save fitted classifiers and fine-tuned networks in evaluation/classifiers, for
    `python -m byol_bnfree.predict`."""
    again: bool = False
    """Measure again even if evaluations.jsonl has the result."""
    weights: str | None = None
    """Evaluate this file of weights instead of the run. --workdir may be any folder."""
    knn: KnnSettings = KnnSettings()
    """Nearest neighbours."""
    linear: LinearSettings = LinearSettings()
    """Linear evaluation as in BYOL's papers."""
    semi: SemiSettings = SemiSettings()
    """Fine-tuning with few labels."""
    finetune: FinetuneSettings = FinetuneSettings()
    """Fine-tuning of the pre-trained network with all labels."""
    supervised: SupervisedSettings = SupervisedSettings()
    """Training from scratch with all labels."""
    transfer: TransferSettings = TransferSettings()
    """Transfer to other data sets."""
    segmentation: SegmentationSettings = SegmentationSettings()
    """Semantic segmentation."""
    depth: DepthSettings = DepthSettings()
    """Depth of every pixel."""
    detection: DetectionSettings = DetectionSettings()
    """Detection of objects."""

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
    """Check that every number is positive. Those in MAY_BE_ZERO may be 0."""
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
