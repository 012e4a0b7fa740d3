"""The settings of a run: frozen dataclasses that check their values.

The defaults are a small recipe of gn_ws for the generated shapes.
`recipes.shapes(norm)` gives the recipe of another norm, and configs/ has recipes for
real images. The defaults of `OptimConfig` alone are DeepMind's.

`setting_checks` checks the values. `command_line.parse_args` parses a command line. The
string under a field is its help text.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import tyro

from byol_bnfree.errors import InputError as InputError
from byol_bnfree.setting_checks import MOST_WORKERS as MOST_WORKERS
from byol_bnfree.setting_checks import validate
from byol_bnfree.setting_types import ImageSize as ImageSize
from byol_bnfree.setting_types import height_and_width as height_and_width
from byol_bnfree.setting_types import image_size_of as image_size_of

PAPERS = (
    "P1 is the BYOL paper, arXiv 2006.07733. P2 is the paper on BYOL without batch "
    "statistics, arXiv 2010.10241."
)
"""The short names of the papers in docstrings and help texts."""
Norm = Literal["bn", "gn_ws", "gn", "ws", "ln", "none"]
"""Name of a normalization; see the table in `models.norm`."""
NORMS: tuple[Norm, ...] = get_args(Norm)
TargetInit = Literal["independent", "copy"]
ObjectiveName = Literal[
    "byol", "infonce", "simsiam", "moco_v2", "barlow_twins", "rotation"
]
"""Name of an objective; see the table in docs/objectives.md."""
TURNS = 4
"""Outputs of the predictor in rotation: 0, 90, 180 and 270 degrees."""
Network = Literal[
    "resnet8",
    "resnet14",
    "resnet20",
    "resnet56",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet200",
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
    *("data.workers", "evaluation", "micro_batches", "own_code"),
}
"""Settings that may change when a run resumes. They change its training by rounding at
most, and do not change the layout of a checkpoint."""


@dataclass(frozen=True)
class HeadConfig:
    """One MLP head: dense, norm, ReLU, dense (P1 section 3.1)."""

    hidden: int = 4096
    """Width of the hidden layers."""
    out: int = 256
    """Width of the output. Projector and predictor must agree."""
    depth: int = 2
    """Number of dense layers, 1 to 3 (P1 Table 14a)."""
    output_bias: bool = False
    """Give the last dense layer a bias. P1's pseudo-code has it, its code does not."""
    plain_dense: tuple[int, ...] = ()
    """Dense layers (counted from 1) that are not standardized in gn_ws and ws."""


@dataclass(frozen=True)
class ModelConfig:
    """Encoder, heads, and details of the normalizations."""

    name: Network = "resnet14"
    """Encoder. resnet8, 14, 20 and 56 are the three-stage CIFAR networks."""
    width: float = 1.0
    """Factor on the channels of every layer; may be a fraction."""
    stem: Literal["imagenet", "small"] = "imagenet"
    """imagenet: 7x7 stride 2 and max-pool. small: 3x3, no pool."""
    stem_stride: Literal[1, 2] = 1
    """Stride of the small stem; 2 quarters the cost of the network."""
    stem_channels: int | None = None
    """Channels of the first convolution. None: from the network and width."""
    padding: Literal["same", "torch", "solo_learn"] = "same"
    """same: as in DeepMind's code. torch: symmetric, for weights from or to PyTorch.
    solo_learn: like torch, with one more pixel around the images in a small stem."""
    shortcuts: Literal["every_group", "changed_shape"] = "every_group"
    """Blocks with a projection shortcut: the first of every group (DeepMind), or only
    blocks that change the shape."""
    projector: HeadConfig = HeadConfig(hidden=512, out=128)
    """MLP from representation to projection."""
    predictor: HeadConfig = HeadConfig(hidden=512, out=128)
    """MLP from projection to prediction, in the online network only."""
    predictor_start: Literal["drawn", "identity"] = "drawn"
    """identity: a predictor of one plain dense layer starts as the identity."""
    groups: int = 16
    """Largest number of groups in GroupNorm (gn, gn_ws).

    P2 does not state its number.
    """
    min_group_channels: int = 16
    """Smallest number of channels in a GroupNorm group. Groups of few channels remove
    contrast and colour in the first layers."""
    standardize_conv: bool = True
    """gn_ws and ws: standardize the kernels of convolutions."""
    standardize_dense: bool = True
    """gn_ws and ws: standardize the kernels of the heads' dense layers (our choice)."""
    last_scale_init: float = 1.0
    """Initial scale of a bottleneck block's last norm (P1: 1; DeepMind's code: 0)."""


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer, learning-rate schedule and moving average of the target."""

    name: Literal["lars", "sgd", "adamw", "muon"] = "lars"
    """lars has BYOL's order: decay, trust ratio, momentum, then learning rate. muon
    orthogonalizes the update of each kernel; adam updates biases and scales."""
    momentum: float = 0.9
    """Momentum of lars and sgd; decay of the first moment in adamw and muon."""
    weight_decay: float = 1e-6
    """Weight decay of kernels."""
    bias_weight_decay: float = 0.0
    """Weight decay of biases and of the norms' scales and offsets (BYOL: 0)."""
    bias_lr_scale: float = 1.0
    """Factor on the learning rate of biases, scales and offsets."""
    predictor_lr_scale: float = 1.0
    """Factor on the learning rate of the predictor: lambda in P1 Table 21."""
    projector_lr_scale: float = 1.0
    """Factor on the learning rate of the projector: mu in P1 Table 22."""
    predictor_schedule: Literal["as_rest", "constant"] | None = None
    """constant: the predictor's rate stays at the peak, without warm-up or decay.
    None: constant for simsiam, as_rest for other objectives."""
    trust_coefficient: float = 1e-3
    """Trust coefficient (eta) of LARS."""
    lars_clip: bool = False
    """lars: limit the update of each kernel to that of SGD (as solo-learn)."""
    warmup_epochs: float = 1.0
    """Epochs in which the learning rate rises linearly from 0."""
    tau_base: float = 0.99
    """tau at step 0. A step keeps this share of the target's parameters."""
    tau_schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: tau rises to 1 over the run. constant: tau stays at tau_base."""


MUON = OptimConfig(
    name="muon", momentum=0.95, weight_decay=1e-5, tau_schedule="constant"
)
"""An optimizer for networks without batch statistics (experiments/recipe_search)."""


@dataclass(frozen=True)
class BYOLConfig:
    """Details of --objective byol."""

    loss_normalization: Literal["l2", "layernorm", "batchnorm", "none"] = "l2"
    """Normalization of predictions and targets in the loss (P1 Table 20). batchnorm
    uses batch statistics, whatever --norm is."""
    predictor: Literal["network", "closed_form"] = "network"
    """closed_form: the linear map that best fits the targets of the batch (P1 F.7). It
    uses statistics of the batch."""


@dataclass(frozen=True)
class InfoNCEConfig:
    """Details of --objective infonce, P1's equation 6; the defaults are SimCLR."""

    predictor: bool = False
    """Compare predictions with the targets, instead of projections."""
    target: Literal["moving_average", "stop_gradient", "none"] = "none"
    """moving_average: the target network. stop_gradient: the online projections as
    constants. none: the online projections, with their gradient."""
    beta: float = 1.0
    """Weight of the negatives. 0 with predictor and target network is BYOL."""
    alpha: float = 0.1
    """Temperature of the negatives."""


@dataclass(frozen=True)
class MoCoConfig:
    """Details of --objective moco_v2."""

    queue: int = 4096
    """Number of negative keys; a multiple of twice the batch size."""
    temperature: float = 0.2
    """Temperature of the cosines (MoCo v2)."""


@dataclass(frozen=True)
class BarlowTwinsConfig:
    """Details of --objective barlow_twins."""

    redundancy: float = 0.0051
    """Weight of the correlations between different features: lambda in the paper."""


@dataclass(frozen=True)
class ViewConfig:
    """Random image operations of one view (P1 Table 6)."""

    crop_area: tuple[float, float] = (0.08, 1.0)
    """Range of the crop's area, as a share of the image's area."""
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Range of the crop's width over height, drawn log-uniformly; times that of an
    input that is not square."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    vertical_flip: float = 0.0
    """Probability of a vertical flip, for images without an upright position (not in
    P1)."""
    quarter_turn: float = 0.0
    """Probability of a turn by 90, 180 or 270 degrees. 0.75 makes all four orientations
    equally likely (not in P1)."""
    jitter: float = 0.8
    """Probability of colour jitter. All four operations are applied, or none."""
    brightness: float = 0.4
    """Largest additive change of brightness, on the scale [0, 1]."""
    contrast: float = 0.4
    """Largest deviation of the contrast factor from 1."""
    saturation: float = 0.2
    """Largest deviation of the saturation factor from 1."""
    hue: float = 0.1
    """Largest shift of hue, in turns."""
    grayscale: float = 0.2
    """Probability of converting to grayscale."""
    blur: float = 1.0
    """Probability of a Gaussian blur, with a kernel of a tenth of the image."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's standard deviation, in pixels."""
    solarize: float = 0.0
    """Probability of inverting pixels at or above the threshold."""
    solarize_threshold: float = 0.5
    """Threshold of solarization, on the scale [0, 1]."""


@dataclass(frozen=True)
class ViewsConfig:
    """The number of views of an image, and the targets that they predict."""

    count: int = 2
    """Number of large views; 2 is BYOL. view1 and view2 draw them in turn."""
    targets: Literal["mean", "pairs"] = "mean"
    """mean: a view predicts the mean of the other large views' targets (FastSiam).
    pairs: it predicts each target separately. With 2 views both are BYOL's loss."""
    small: int = 0
    """Number of small views. They pass through the online network only, and predict the
    targets of all large views."""
    small_size: int | None = None
    """Side of a small view in pixels. None: half the side of a large view."""
    small_area: tuple[float, float] = (0.05, 0.3)
    """Range of a small crop's area, as a share of the image's area, LOW HIGH."""
    small_predictor: Literal["shared", "own"] = "own"
    """own: small views have their own predictor. shared: they use the other one."""
    accumulate: bool = False
    """Pass one view at a time and sum the gradients. The gradient is the same, and the
    memory of activations does not grow with the number of views."""

    @property
    def plain(self) -> bool:
        """True for BYOL's two views, passed together."""
        return self.count == 2 and not self.small and not self.accumulate


@dataclass(frozen=True)
class AugmentConfig:
    """The two views' distributions T and T', and pixel normalization."""

    view1: ViewConfig = ViewConfig()
    """The first view, T in P1."""
    view2: ViewConfig = ViewConfig(blur=0.1, solarize=0.2)
    """The second view, T' in P1."""
    function: str | None = None
    """FILE:FUNCTION that makes the views instead. It is called for each image as
    FUNCTION(key, image, view) with image [h w c] in [0, 1] and view 1, 2, ..."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Mean of each channel; subtracted after augmentation. Images without three
    channels use the average."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Standard deviation of each channel; divides the result. Average as for mean."""
    measured: bool = False
    """Measure mean and std on the training images, and use these instead."""
    colours: bool = True
    """Treat three channels as red, green and blue. Otherwise saturation, hue and
    grayscale are left out, as they are for other numbers of channels."""


@dataclass(frozen=True)
class DataConfig:
    """The source of images, and how they are held."""

    image_size: ImageSize | None = None
    """Side of the input in pixels, or HEIGHT WIDTH. None: the shorter side of the
    data set's images (224 if they differ)."""
    channels: int | None = None
    """Channels of every image, 1 to 16. None: the data set's (3 if gray and colour
    are mixed). Only gray and colour are converted into each other."""
    train_split: str = "train"
    """Split for pre-training, the probe, and fitting in evaluation."""
    test_split: str = "test"
    """Split to report on. It is never trained on."""
    unlabelled: bool = False
    """folder: ignore folders as classes and use all pictures, at any depth."""
    white: float | None = None
    """Value of white in pictures of more than 8 bits (4095: 12 bits stored in 16; 1:
    floats up to 1). None: 65535. Colours of 16 bits always have 65535."""
    alpha: Literal["white", "black", "ignore"] = "white"
    """Colour behind transparent pixels. ignore: use the stored colours."""
    max_pixels: int = 89_478_485
    """Pictures with more pixels are rejected: a small file may contain very many."""
    in_memory_gib: float = 4.0
    """Sets of equal-sized images up to this decoded size are held in memory (GiB)."""
    workers: int | None = None
    """Decoding processes per process of the run, for sets that stream; 0 means threads.
    None: one for each core but one, or threads with fewer than 4 cores."""
    shapes_train: int = 4096
    """Number of generated training images of --dataset=shapes."""
    shapes_test: int = 1024
    """Number of generated test images of --dataset=shapes."""


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
    """Epochs between kNN measurements on the test split; 0 measures at the end only.
    None: one epoch, or as many as keep it cheap, with 2,048 training and 1,024 test
    images."""
    linear_too: bool = False
    """Also log the linear accuracy with every kNN accuracy."""
    skip: bool = False
    """Do not evaluate at the end."""


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
    device. auto: onednn if the `cpu` extra is installed. xla: XLA."""
    join_seconds: float = 300.0
    """Seconds to wait at the start for the other processes of the run."""
    compilation_cache: str | None = "auto"
    """Folder in which compiled programs are kept for the next run. auto: JAX's own
    setting, or the user's cache folder. none: keep none."""


@dataclass(frozen=True)
class Extension:
    """A part that `--extend` has added to a run. The run itself makes it."""

    start: int
    """First step of the part, where the run ended before."""
    end: int
    """Step at which the part ends."""
    base_lr: float
    """The part's first learning rate is this value times batch_size / 256."""


@dataclass(frozen=True)
class TrainConfig:
    """Pre-train BYOL, with or without batch statistics."""

    norm: Norm = "gn_ws"
    """Normalization of every part of the network."""
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
    """Folder of the run. The same command resumes it. None: a new one in runs/."""
    dataset: str = "shapes"
    """shapes (generated), a tensorflow-datasets name, or folder:PATH."""
    data_dir: str | None = None
    """Root of prepared tensorflow-datasets."""
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
    backward pass. It saves memory, takes about a third more time, and gives the same
    gradient."""
    shard_state: bool = False
    """Also shard parameters and optimizer state over the `data` axis."""
    on_collapse: Literal["warn", "stop"] = "warn"
    """warn: go on if the representation collapses. stop: end the run."""
    on_bad_image: Literal["stop", "skip"] = "stop"
    """stop: end the run at a picture that cannot be decoded. skip: leave it out."""
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
