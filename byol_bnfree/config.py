"""The settings of a run: frozen dataclasses that check their values.

The defaults are a small recipe for the generated shapes, with gn_ws and with bn.
configs/ has recipes for real images. The defaults of `OptimConfig` alone are
DeepMind's.

The classes of the parts are in `settings`, and this module exports all.
`settings.checks` checks the values. `command_line.parse_args` parses a command line.
The string under a field is its help text.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from byol_bnfree.errors import InputError  # for recipes of users
from byol_bnfree.settings.checks import MOST_WORKERS, validate
from byol_bnfree.settings.data import DataConfig
from byol_bnfree.settings.names import (
    NORMS,
    PAPERS,
    TURNS,
    Network,
    Norm,
    ObjectiveName,
    TargetInit,
)
from byol_bnfree.settings.network import HeadConfig, ModelConfig
from byol_bnfree.settings.objectives import (
    BarlowTwinsConfig,
    BYOLConfig,
    InfoNCEConfig,
    MoCoConfig,
)
from byol_bnfree.settings.optim import MUON, OptimConfig
from byol_bnfree.settings.run import (
    KNN_K,
    KNN_TEMPERATURE,
    EvalConfig,
    Extension,
    RunConfig,
)
from byol_bnfree.settings.types import ImageSize, height_and_width, image_size_of
from byol_bnfree.settings.views import AugmentConfig, ViewConfig, ViewsConfig

__all__ = [
    "AugmentConfig",
    "BYOLConfig",
    "BarlowTwinsConfig",
    "DataConfig",
    "EvalConfig",
    "Extension",
    "FREE_ON_RESUME",
    "HOW_NOT_WHAT",
    "HeadConfig",
    "ImageSize",
    "InfoNCEConfig",
    "InputError",
    "KNN_K",
    "KNN_TEMPERATURE",
    "MOST_WORKERS",
    "MUON",
    "MoCoConfig",
    "ModelConfig",
    "NORMS",
    "Network",
    "Norm",
    "ObjectiveName",
    "OptimConfig",
    "PAPERS",
    "RunConfig",
    "TURNS",
    "TargetInit",
    "TrainConfig",
    "ViewConfig",
    "ViewsConfig",
    "height_and_width",
    "image_size_of",
    "validate",
]

HOW_NOT_WHAT = frozenset(
    {
        *("workdir", "config", "data_dir", "run", "on_collapse", "on_bad_image"),
        *("shard_state", "remat", "coordinator", "num_processes", "process_id"),
    }
)
"""Settings of how a run is done.

They do not change what is trained, nor its results.
"""
FREE_ON_RESUME = HOW_NOT_WHAT | {
    *("data.workers", "evaluation", "micro_batches", "views.accumulate", "own_code"),
}
"""Settings that may change when a run resumes. They change its training by rounding at
most, and do not change the layout of a checkpoint."""


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a run."""

    norm: Norm = "gn_ws"
    """Normalization of every part of the network. bn: BatchNorm. gn_ws: GroupNorm and
    Weight Standardization. gn: GroupNorm. ws: Weight Standardization. ln: LayerNorm.
    none: no normalization. A recipe of --config may have other settings for it."""
    objective: ObjectiveName = "byol"
    """Objective to train for: BYOL, or a method to compare it with."""
    config: str | None = None
    """FILE or FILE:ARG whose get_config() or get_config(ARG) returns the defaults."""
    encoder_norm: Norm | None = None
    """Normalization of the encoder. None: --norm."""
    projector_norm: Norm | None = None
    """Normalization of the projector. None: --norm."""
    predictor_norm: Norm | None = None
    """Normalization of the predictor. None: --norm."""
    bn_stat_groups: int = 1
    """bn: number of equal groups of the batch with separate statistics (1: global)."""
    init: Literal["standard", "data_dependent"] = "standard"
    """data_dependent: set the scale and offset of `none` layers from one batch."""
    init_from: str | None = None
    """Work folder or file of weights to start from, as `load_encoder` reads them."""
    init_from_part: Literal["network", "encoder"] = "network"
    """Parts to take from --init-from: everything, or only the encoder."""
    init_from_other_norm: bool = False
    """Allow weights that were trained with another norm."""
    target_init: TargetInit = "independent"
    """Initial weights of the target. independent: its own draw (as DeepMind's code).
    copy: the online network's."""
    workdir: str | None = None
    """Folder of the run. The same command resumes it. None: a new folder in runs/;
    give that folder to resume its run."""
    dataset: str = "shapes"
    """shapes (generated), a tensorflow-datasets name, or folder:PATH."""
    data_dir: str | None = None
    """Root of the prepared data sets. None: $TFDS_DATA_DIR, or
    ~/tensorflow_datasets."""
    batch_size: int = 64
    """Global batch size over all devices and processes."""
    epochs: float = 10.0
    """Length of the run in epochs."""
    steps: int | None = None
    """Length of the run in optimizer steps. It replaces --epochs."""
    extend: float | None = None
    """Extend the finished run in --workdir to this many epochs in total. Its settings
    are the defaults. Learning rate and tau get their own schedule."""
    extend_base_lr: float | None = None
    """First learning rate of the extension, times batch_size / 256; it falls to 0 in a
    cosine. None: the rate at this step of a run of the full length."""
    base_lr: float = 0.08
    """The peak learning rate is this value times batch_size / 256."""
    seed: int = 0
    """Seed for initialization, data order and augmentation."""
    micro_batches: int = 1
    """Number of pieces of the batch whose gradients are accumulated."""
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """dtype of activations. Parameters, statistics and loss are float32. auto: bfloat16
    on devices that compute it fast, otherwise float32. A resumed run keeps its own."""
    remat: bool = False
    """Keep only the outputs of the encoder's stages, and recompute the rest in the
    backward pass. It saves memory on GPUs and TPUs (none on CPUs), gives the same
    gradient, and counts up to a quarter more operations."""
    shard_state: bool = False
    """Also shard parameters and optimizer state over the `data` axis."""
    on_collapse: Literal["warn", "stop"] = "warn"
    """warn: go on if the representation collapses. stop: end the run."""
    on_bad_image: Literal["stop", "skip"] = "stop"
    """stop: end the run at a picture that cannot be decoded. skip: train on the next
    good picture instead, and leave it out of evaluation."""
    coordinator: str | None = None
    """HOST:PORT of process 0, if no launcher sets it."""
    num_processes: int | None = None
    """Number of processes, with --coordinator."""
    process_id: int | None = None
    """Index of this process, with --coordinator."""
    encoder: Annotated[str | None, tyro.conf.arg(name="model")] = None
    """FILE:FUNCTION that makes the encoder. FUNCTION(layers) returns a Linen module,
    called as module(images, train), that maps [b h w c] to representations [b d].
    --model.name, width and stem are then ignored."""
    byol: BYOLConfig = BYOLConfig()
    """Details of --objective byol."""
    infonce: InfoNCEConfig = InfoNCEConfig()
    """Details of --objective infonce."""
    moco_v2: MoCoConfig = MoCoConfig()
    """Details of --objective moco_v2."""
    barlow_twins: BarlowTwinsConfig = BarlowTwinsConfig()
    """Details of --objective barlow_twins."""
    model: ModelConfig = ModelConfig()
    """The network."""
    optim: OptimConfig = MUON
    """Optimizer and schedules."""
    views: ViewsConfig = ViewsConfig()
    """The number of views of an image."""
    augment: AugmentConfig = AugmentConfig()
    """The two views."""
    data: DataConfig = DataConfig()
    """The images."""
    evaluation: EvalConfig = EvalConfig()
    """Evaluation at the end."""
    run: RunConfig = RunConfig()
    """Logs, checkpoints, devices."""
    extensions: Annotated[tuple[Extension, ...], tyro.conf.Suppress] = ()
    """Filled in by the run from --extend."""
    own_code: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()
    """Filled in by the run: checksums of the files of --model and
    --augment.function."""

    def __post_init__(self):
        validate(self)
