"""Every setting of an evaluation: frozen dataclasses, checked when made.

The string under a field is its help text (unit and meaning).
"""

from dataclasses import dataclass
from typing import Literal

from byol_bnfree.errors import InputError

Protocol = Literal["knn", "linear_cached", "random"]


@dataclass(frozen=True)
class KnnSettings:
    """The weighted nearest-neighbour classifier (arXiv 1805.01978, section 3.4)."""

    k: int = 20
    """Neighbours that vote."""
    temperature: float = 0.1
    """A neighbour's weight is exp(cosine / temperature)."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluate what a run has learned."""

    workdir: str
    """Folder of the run; figures are added to its evaluations.jsonl."""
    protocol: tuple[Protocol, ...] = ("knn", "linear_cached", "random")
    """What to measure; random repeats the others on the untrained encoder."""
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
    max_train: int | None = None
    """Training images used at most, a subset fixed by the seed; none: all."""
    max_test: int | None = None
    """Test images used at most; none: all."""
    seed: int = 0
    """Of held-out images, subsets, augmentation and initialization."""
    batch_size: int = 512
    """Images per step when features are extracted."""
    half_precision: bool = False
    """Keep features as float16: half the memory and disk."""
    again: bool = False
    """Measure again what evaluations.jsonl holds already."""
    knn: KnnSettings = KnnSettings()
    """Nearest neighbours."""

    def __post_init__(self):
        for name, value in (
            ("batch_size", self.batch_size),
            ("max_train", self.max_train),
            ("max_test", self.max_test),
            ("knn.k", self.knn.k),
            ("knn.temperature", self.knn.temperature),
        ):
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value}; it must be a positive number.")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; it must be zero or more.")
