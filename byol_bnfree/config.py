"""Every setting of a run: frozen dataclasses.

The defaults are a small recipe of gn_ws for the generated shapes. That of another norm
is `recipes.shapes(norm)`, and configs/ holds the recipes for real images. The defaults
of `OptimConfig` alone are DeepMind's.

Validated when made (see `setting_checks`); `command_line.parse_args` makes one from
a shell's arguments.
The string under a field is its help text (unit and meaning).
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
    "P1 is the paper of BYOL, arXiv 2006.07733; P2 that of BYOL without batch "
    "statistics, arXiv 2010.10241."
)
"""The short names of the papers in docstrings and help texts."""
Norm = Literal["bn", "gn_ws", "gn", "ws", "ln", "none"]
"""Name of a normalization; the table of `models.norm` says what each is."""
NORMS: tuple[Norm, ...] = get_args(Norm)
TargetInit = Literal["independent", "copy"]
ObjectiveName = Literal[
    "byol", "infonce", "simsiam", "moco_v2", "barlow_twins", "rotation"
]
"""Name of an objective; the table of docs/objectives.md says what each is."""
TURNS = 4
"""Outputs of the predictor of rotation: 0, 90, 180 and 270 degrees."""
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
"""Settings of how a run is done, not of what is trained: they change no figure."""
FREE_ON_RESUME = HOW_NOT_WHAT | {
    *("data.workers", "evaluation", "micro_batches", "own_code"),
}
"""Settings that may change when a run resumes: none changes more of its training than
rounding, or the layout of a checkpoint."""


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
    """Give the last dense layer a bias (the paper's pseudo-code does, its code not)."""
    plain_dense: tuple[int, ...] = ()
    """Dense layers, counted from 1, that stay plain where the norm standardizes."""


@dataclass(frozen=True)
class ModelConfig:
    """Encoder, heads, and what each normalization variant means in detail."""

    name: Network = "resnet14"
    """Encoder; resnet8, 14, 20 and 56 are the three-stage CIFAR family."""
    width: float = 1.0
    """Multiplies the channels of every layer; fractions are allowed."""
    stem: Literal["imagenet", "small"] = "imagenet"
    """imagenet: 7x7 stride 2 and max-pool. small: 3x3, no pool."""
    stem_stride: Literal[1, 2] = 1
    """Stride of the small stem; 2 quarters the cost of the network."""
    stem_channels: int | None = None
    """Channels of the first convolution; none: as the network and width say."""
    padding: Literal["same", "torch", "solo_learn"] = "same"
    """same: as DeepMind's code. torch: symmetric, for weights to or from PyTorch.
    solo_learn: the same, with one more pixel around a small stem's images."""
    shortcuts: Literal["every_group", "changed_shape"] = "every_group"
    """Project in the first block of every group (DeepMind), or where shapes change."""
    projector: HeadConfig = HeadConfig(hidden=512, out=128)
    """MLP from representation to projection."""
    predictor: HeadConfig = HeadConfig(hidden=512, out=128)
    """MLP from projection to prediction; the online network only."""
    predictor_start: Literal["drawn", "identity"] = "drawn"
    """identity: a predictor of one plain dense layer starts as the identity."""
    groups: int = 16
    """Groups of GroupNorm in gn and gn_ws. P2 does not say how many it uses."""
    min_group_channels: int = 16
    """A GroupNorm group never has fewer channels than this: thin groups take contrast
    and colour out of the first layers."""
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
    """lars is BYOL's order: decay, trust ratio, momentum, then learning rate. muon
    orthogonalizes the update of each kernel; adam moves biases and scales."""
    momentum: float = 0.9
    """Momentum of lars and sgd; decay of the first moment in adamw and muon."""
    weight_decay: float = 1e-6
    """Decay of kernels."""
    bias_weight_decay: float = 0.0
    """Decay of biases and of the norms' scales and offsets (BYOL: none)."""
    bias_lr_scale: float = 1.0
    """Learning rate of biases, scales and offsets over that of kernels."""
    predictor_lr_scale: float = 1.0
    """Learning rate of the predictor over that of the rest: lambda in P1 Table 21."""
    projector_lr_scale: float = 1.0
    """Learning rate of the projector over that of the rest: mu in P1 Table 22."""
    predictor_schedule: Literal["as_rest", "constant"] | None = None
    """constant: the predictor's rate stays at the peak, without warm-up or decay. None:
    constant for simsiam, as_rest for the other objectives."""
    trust_coefficient: float = 1e-3
    """eta of LARS."""
    lars_clip: bool = False
    """lars: no kernel moves further than SGD would move it (solo-learn)."""
    warmup_epochs: float = 1.0
    """Linear warm-up of the learning rate from 0, in epochs."""
    tau_base: float = 0.99
    """tau at step 0: the share of the target that a step keeps."""
    tau_schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: tau rises to 1 over the run. constant: it stays tau_base."""


MUON = OptimConfig(
    name="muon", momentum=0.95, weight_decay=1e-5, tau_schedule="constant"
)
"""Suits networks without batch statistics (experiments/recipe_search)."""


@dataclass(frozen=True)
class BYOLConfig:
    """Details of --objective byol."""

    loss_normalization: Literal["l2", "layernorm", "batchnorm", "none"] = "l2"
    """What predictions and targets are divided by before they are compared (P1 Table
    20). batchnorm uses statistics of the batch, whatever --norm is."""
    predictor: Literal["network", "closed_form"] = "network"
    """closed_form: the linear map that fits the batch's targets best (P1 F.7). It uses
    statistics of the batch."""


@dataclass(frozen=True)
class InfoNCEConfig:
    """Details of --objective infonce, P1's equation 6; the defaults are SimCLR."""

    predictor: bool = False
    """Compare the predictions, not the projections, with the targets."""
    target: Literal["moving_average", "stop_gradient", "none"] = "none"
    """moving_average: the target network. stop_gradient: the online projections as
    constants. none: the online projections, with their gradient."""
    beta: float = 1.0
    """Weight of the negatives; 0 with predictor and target network is BYOL."""
    alpha: float = 0.1
    """Temperature of the negatives."""


@dataclass(frozen=True)
class MoCoConfig:
    """Details of --objective moco_v2."""

    queue: int = 4096
    """Keys that a query is told apart from; a multiple of twice the batch."""
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
    """Range of the crop's share of the image's area."""
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Range of the crop's width over height, drawn log-uniformly; times that of an
    input that is not square."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    vertical_flip: float = 0.0
    """Probability of a vertical flip, for pictures that have no top (not in P1)."""
    quarter_turn: float = 0.0
    """Probability of a turn by 90, 180 or 270 degrees; 0.75 makes all four positions
    equally likely (not in P1)."""
    jitter: float = 0.8
    """Probability of colour jitter (all four operations or none)."""
    brightness: float = 0.4
    """Largest additive change of brightness on the [0, 1] scale."""
    contrast: float = 0.4
    """Contrast factor is drawn from 1 +/- this."""
    saturation: float = 0.2
    """Saturation factor is drawn from 1 +/- this."""
    hue: float = 0.1
    """Largest shift of hue, in turns."""
    grayscale: float = 0.2
    """Probability of dropping colour."""
    blur: float = 1.0
    """Probability of a Gaussian blur; its kernel is a tenth of the image."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's sigma, in pixels."""
    solarize: float = 0.0
    """Probability of inverting pixels at or above the threshold."""
    solarize_threshold: float = 0.5
    """Threshold of solarization on the [0, 1] scale."""


@dataclass(frozen=True)
class ViewsConfig:
    """How many views of an image a step takes, and what they predict."""

    count: int = 2
    """Large views; 2 is BYOL. They are drawn from view1 and view2 in turn."""
    targets: Literal["mean", "pairs"] = "mean"
    """mean: a view predicts the mean of the other large views' targets (FastSiam).
    pairs: it predicts each of them by itself. Both are BYOL's loss for 2 views."""
    small: int = 0
    """Small views. They pass through the online network only, and predict the targets
    of all large views."""
    small_size: int | None = None
    """Side of a small view, pixels; none: half the side of a large one."""
    small_area: tuple[float, float] = (0.05, 0.3)
    """Share of the picture's area that a small view is cropped from, LOW HIGH."""
    small_predictor: Literal["shared", "own"] = "own"
    """own: small views have a predictor of their own. shared: large views' one."""
    accumulate: bool = False
    """Pass one view at a time and add up the gradients. The gradient is the same, and
    the memory of activations does not grow with the number of views."""

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
    """FILE:FUNCTION that makes a view instead, called for each image as
    FUNCTION(key, image, view): image [h w c] in [0, 1], view 1, 2, ..."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Mean of each channel, subtracted after augmentation. Three serve any number of
    channels, by their average."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Deviation of each channel, divided by; three as of mean."""
    measured: bool = False
    """Measure mean and std on the training pictures; they take the place of those."""
    colours: bool = True
    """Three channels are red, green and blue. If not, saturation, hue and grayscale are
    left out, as they always are of other numbers of channels."""


@dataclass(frozen=True)
class DataConfig:
    """Where images come from and how they are held."""

    image_size: ImageSize | None = None
    """Side of the input in pixels, or HEIGHT WIDTH; none: the data set's own shorter
    side (224 if that varies)."""
    channels: int | None = None
    """Channels of every image, 1 to 16; none: the data set's own (3 if gray and colour
    are mixed). Gray and colour are converted into each other, no others."""
    train_split: str = "train"
    """Split that pre-training, probe and the evaluation's fit use."""
    test_split: str = "test"
    """Split that evaluation reports on; never trained on."""
    unlabelled: bool = False
    """folder: take all pictures, at any depth, as pictures without a class."""
    white: float | None = None
    """Value that becomes white in pictures of more than 8 bits (4095: 12 bits stored in
    16; 1: floats up to 1); none: 65535. Colours of 16 bits always have 65535."""
    alpha: Literal["white", "black", "ignore"] = "white"
    """The colour behind transparent pixels; ignore: colours as they are stored."""
    max_pixels: int = 89_478_485
    """Pictures with more pixels than this are refused: a small file may hold many."""
    in_memory_gib: float = 4.0
    """Sets of equal-sized images up to this size are decoded once into memory."""
    workers: int | None = None
    """Decoding processes of each process of the run, for sets that stream; 0: threads.
    None: one for each core but one, or threads where there are fewer than 4 cores."""
    shapes_train: int = 4096
    """Number of generated training images of --dataset=shapes."""
    shapes_test: int = 1024
    """Number of generated test images of --dataset=shapes."""


KNN_K, KNN_TEMPERATURE = 20, 0.1  # of the literature, for small sets as for ImageNet


@dataclass(frozen=True)
class EvalConfig:
    """The evaluation that a run ends with."""

    knn_k: int = KNN_K
    """Neighbours of the kNN classifier."""
    knn_temperature: float = KNN_TEMPERATURE
    """Temperature of its weights exp(cosine / temperature)."""
    max_train: int = 50_000
    """Most labelled training images to use; of more, a fixed random subset."""
    max_test: int = 50_000
    """Most test images to use."""
    batch_size: int = 512
    """Images per step when features are extracted."""
    knn_every_epochs: float | None = None
    """Epochs between measurements of kNN on the test split; 0: only at the end. None:
    one epoch, or as many as keep it cheap, with 2,048 training and 1,024 test images.
    """
    linear_too: bool = False
    """Log linear accuracy with every kNN figure of the run as well."""
    skip: bool = False
    """Do not evaluate at the end."""


@dataclass(frozen=True)
class RunConfig:
    """Logging, checkpoints, devices."""

    log_every: int = 20
    """Steps between rows of metrics.jsonl."""
    layers_every: int = 0
    """Steps between rows that hold every layer's ratio of update to weight too (a
    multiple of --run.log-every); 0: none."""
    checkpoint_seconds: float = 120.0
    """Seconds between checkpoints; one is always written at the end."""
    checkpoint_steps: int = 0
    """Steps between checkpoints, beside those by time; 0: none."""
    keep: int = 3
    """Number of checkpoints to keep; older ones are deleted."""
    keep_best: bool = False
    """Also keep the checkpoint with the best kNN so far, in the folder `best` of the
    run, which is a work folder of its own."""
    wandb: str | None = None
    """Project of Weights & Biases to log to as well (extra `wandb`); none: off."""
    model_devices: int = 1
    """Size of the mesh axis `model`; the rest of the devices form `data`."""
    convolution: Literal["auto", "xla", "onednn"] = "auto"
    """The library that computes layers. onednn: C++ of this package and oneDNN, for
    one CPU device; auto: the same where the `cpu` extra is installed; xla: XLA."""
    join_seconds: float = 300.0
    """Seconds to wait at the start for the other processes of the run."""
    compilation_cache: str | None = "auto"
    """Folder where compiled programs are kept for the next run. auto: JAX's own
    setting, or else the user's cache folder; none: they are not kept."""


@dataclass(frozen=True)
class Extension:
    """A part of a run that `--extend` has added; made by the run itself."""

    start: int
    """Step at which it begins, the end of the run before."""
    end: int
    """Step at which it ends."""
    base_lr: float
    """Its first learning rate is this times batch_size / 256."""


@dataclass(frozen=True)
class TrainConfig:
    """Pre-train BYOL, with or without batch statistics."""

    norm: Norm = "gn_ws"
    """Normalization of every part of the network."""
    objective: ObjectiveName = "byol"
    """What is trained for: BYOL, or a method to compare it with."""
    config: str | None = None
    """FILE or FILE:ARG whose get_config() or get_config(ARG) gives the defaults."""
    encoder_norm: Norm | None = None
    """Normalization of the encoder; none: that of --norm."""
    projector_norm: Norm | None = None
    """Normalization of the projector; none: that of --norm."""
    predictor_norm: Norm | None = None
    """Normalization of the predictor; none: that of --norm."""
    bn_stat_groups: int = 1
    """bn: statistics over this many equal groups of the batch (1: global)."""
    init: Literal["standard", "data_dependent"] = "standard"
    """data_dependent: set the scale and offset of `none` from one batch."""
    init_from: str | None = None
    """Work folder or file of weights to start from, as `load_encoder` reads them."""
    init_from_part: Literal["network", "encoder"] = "network"
    """Take all that is there, or the encoder alone."""
    init_from_other_norm: bool = False
    """Take weights that were trained with another norm."""
    target_init: TargetInit = "independent"
    """The target's first weights. independent: a draw of its own (DeepMind's code).
    copy: the online network's."""
    workdir: str | None = None
    """Folder of the run; the same command again resumes. None: a new one in runs/."""
    dataset: str = "shapes"
    """shapes (generated), a tensorflow-datasets name, or folder:PATH."""
    data_dir: str | None = None
    """Root of prepared tensorflow-datasets."""
    batch_size: int = 64
    """Global batch size over all devices and processes."""
    epochs: float = 10.0
    """Length of the run in epochs."""
    steps: int | None = None
    """Length of the run in optimizer steps; replaces --epochs."""
    extend: float | None = None
    """Make the finished run in --workdir this many epochs long in all. Its settings
    are the defaults; learning rate and tau have a schedule of their own."""
    extend_base_lr: float | None = None
    """Learning rate at the start of the extension is this times batch_size / 256, and
    falls to 0 on a cosine; none: as at this step of a run of the whole length."""
    base_lr: float = 0.08
    """Peak learning rate is this times batch_size / 256."""
    seed: int = 0
    """Seed of initialization, data order and augmentation."""
    micro_batches: int = 1
    """Accumulate gradients over this many pieces of the batch."""
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of activations; parameters, statistics and loss stay float32. auto: bfloat16
    where the devices are fast at it, float32 on CPUs; a run that resumes keeps its
    type."""
    remat: bool = False
    """Keep the outputs of the encoder's stages only, and compute what is between them
    again in the backward pass: less memory, about a third more time, same gradient."""
    shard_state: bool = False
    """Shard parameters and optimizer state over the `data` axis too."""
    on_collapse: Literal["warn", "stop"] = "warn"
    """warn: go on when the representation collapses. stop: end the run."""
    on_bad_image: Literal["stop", "skip"] = "stop"
    """stop: end the run at an image that cannot be decoded. skip: leave it out."""
    coordinator: str | None = None
    """host:port of process 0, where no launcher says it."""
    num_processes: int | None = None
    """Number of processes, with --coordinator."""
    process_id: int | None = None
    """Index of this process, with --coordinator."""
    encoder: Annotated[str | None, tyro.conf.arg(name="model")] = None
    """FILE:FUNCTION that makes the encoder: FUNCTION(layers) returns a Linen module,
    called as module(images, train), images [b h w c] to representations [b d].
    --model.name, width and stem then do not count."""
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
