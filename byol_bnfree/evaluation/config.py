"""The settings of an evaluation, and their checks.

The string under a field is its help text. P1 is the BYOL paper (arXiv 2006.07733).
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from byol_bnfree.errors import InputError, flag
from byol_bnfree.evaluation.dense.settings import (
    DepthSettings,
    DetectionSettings,
    SegmentationSettings,
)
from byol_bnfree.evaluation.settings import (
    FinetuneSettings,
    KnnSettings,
    LinearSettings,
    SemiSettings,
    SupervisedSettings,
    TransferSettings,
)
from byol_bnfree.interop.facts import Facts
from byol_bnfree.settings.checks import LEAST_TEMPERATURE
from byol_bnfree.settings.types import check_types

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
FROM_FEATURES = ("knn", "linear", "linear_cached", "robustness", "transfer")
"""Protocols on stored features; see `reads_features`."""
MAY_BE_ZERO = frozenset(
    [
        *("seed", "weight_decay", "weight_decays"),
        *("warmup_epochs", "warmup_steps", "label_smoothing", "mean"),
        "further_rates",
    ]
)


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
    """shapes, a tensorflow-datasets name, or folder:PATH. None: the run's. With
    --weights and no run in --workdir, None is the set that the file names."""
    data_dir: str | None = None
    """Root of the prepared data sets. None: the run's."""
    train_split: str | None = None
    """Split to fit classifiers on. None: the run's; train for another data set. Dense
    tasks: the data set's usual split, unless the run set another one than train."""
    test_split: str | None = None
    """Split to report on. None: the run's; test for another data set. Dense tasks:
    the data set's usual split, unless the run set another one than test."""
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
    `python -m byol_bnfree.predict`. Not with --weights."""
    again: bool = False
    """Measure again even if evaluations.jsonl has the result."""
    weights: str | None = None
    """Evaluate this file of weights instead of the run. --workdir may be any folder. A
    run there gives the data."""
    facts: Facts = Facts()
    """What weights of another program do not state."""
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
        check_settings("", self)
        if self.knn.temperature < LEAST_TEMPERATURE:
            raise InputError(
                f"--knn.temperature is {self.knn.temperature:g}; it must be at least "
                f"{LEAST_TEMPERATURE:g}."
            )
        if self.save and self.weights is not None:
            raise InputError(
                f"--save was given with --weights {self.weights}; predict finds the "
                f"encoder of a classifier in a run, so leave out one of them."
            )
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


def reads_features(protocol: str, config: EvaluateConfig) -> bool:
    """Return True if a protocol needs stored features only, and trains no encoder."""
    tunes = protocol == "transfer" and config.transfer.method == "finetune"
    return protocol in FROM_FEATURES and not tunes


def check_settings(prefix: str, settings: Any) -> None:
    """Raise `InputError` for a setting of a wrong type or word, or out of range.

    The functions of the protocols call it too: only commands make an `EvaluateConfig`.
    """
    check_types(settings, prefix)
    _require_positive(prefix, settings)


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
