"""Settings of how a run is done, logged, saved and evaluated."""

from dataclasses import dataclass
from typing import Literal

from byol_bnfree.settings.types import check_types

KNN_K, KNN_TEMPERATURE = 20, 0.1  # usual in the literature, for sets of any size


@dataclass(frozen=True)
class EvalConfig:
    """The evaluation at the end of a run."""

    knn_k: int = KNN_K
    """Number of neighbours in the kNN classifier."""
    knn_temperature: float = KNN_TEMPERATURE
    """A neighbour's vote has the weight exp(cosine / temperature)."""
    max_train: int = 50_000
    """Largest number of labelled training images; of more, a fixed random subset."""
    max_test: int = 50_000
    """Largest number of test images; of more, a fixed random subset."""
    batch_size: int = 512
    """Images per step while features are extracted."""
    knn_every_epochs: float | None = None
    """Epochs between kNN measurements on the test split, with all images up to
    max_train and max_test; 0 measures at the end only. None: one epoch, or more where
    kNN would take too long, with 2,048 training and 1,024 test images."""
    linear_too: bool = False
    """Also log the linear accuracy with every kNN accuracy."""
    skip: bool = False
    """Do not evaluate at the end."""

    @property
    def knn_in_training(self) -> bool:
        """True if kNN is measured during the run: if asked for, or by default."""
        every = self.knn_every_epochs
        return not self.skip if every is None else every > 0


@dataclass(frozen=True)
class RunConfig:
    """Logging, checkpoints, devices."""

    log_every: int = 20
    """Steps between rows of metrics.jsonl."""
    layers_every: int = 0
    """Steps between rows that also hold every layer's ratio of update to weight (a
    multiple of --run.log-every); 0 means never."""
    checkpoint_seconds: float = 120.0
    """Seconds between checkpoints. One is always written at the end."""
    checkpoint_steps: int = 0
    """Steps between checkpoints, in addition to those by time; 0 means none."""
    keep: int = 3
    """Number of checkpoints to keep; older ones are deleted."""
    keep_best: bool = False
    """Also keep the checkpoint with the best kNN so far, in the run's folder `best`.
    That is a work folder of its own."""
    wandb: str | None = None
    """Also log to this project of Weights & Biases (extra `wandb`)."""
    model_devices: int = 1
    """Devices along the mesh axis `model`. The others form the axis `data`."""
    convolution: Literal["auto", "xla", "onednn"] = "auto"
    """Library that computes the layers. onednn: our C++ with oneDNN, for a single CPU
    device and float32. auto: onednn if it can, and the `cpu` extra is installed. xla:
    XLA."""
    join_seconds: float = 300.0
    """Seconds to wait at the start for the other processes of the run."""
    compilation_cache: str | None = "auto"
    """Folder in which compiled programs are kept for the next run. auto: JAX's own
    setting, or the user's cache folder. None: keep nothing."""


@dataclass(frozen=True)
class Extension:
    """A part that `--extend` has added to a run. The run itself makes it."""

    start: int
    """First step of the part, where the run ended before."""
    end: int
    """Step at which the part ends."""
    base_lr: float
    """The part's first learning rate is this value times batch_size / 256."""

    def __post_init__(self):
        check_types(self, "extensions.", str)
