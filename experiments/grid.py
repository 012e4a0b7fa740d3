"""The question of an experiment, its arms, and the runs that they make."""

import dataclasses
import functools
import hashlib
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from byol_bnfree.command_line import parse_args
from byol_bnfree.config import HOW_NOT_WHAT, TrainConfig
from byol_bnfree.cpu.allocator import accelerators_possible
from byol_bnfree.models.byol import part_norms
from experiments.scales import Scale

if TYPE_CHECKING:
    from experiments.comparison import Comparison

_FREE = HOW_NOT_WHAT | {"seed"}  # runs of other seeds are runs of the same settings


@dataclass(frozen=True)
class Arm:
    """One of the settings that an experiment compares."""

    name: str
    flags: tuple[str, ...]
    """Flags of `byol_bnfree.train`, beside those of the scale."""
    paper: float | None = None
    """The paper's figure, percent."""
    seeds_on_cpu: int | None = None
    """At cpu scale only so many of the seeds; None: all."""
    x: float | None = None
    """Where the arm stands on the axis of the experiment's figure, if it has one."""
    family: str = ""
    """The curve it belongs to there, or the map."""
    cell: tuple[str, str] | None = None
    """Row and column in the experiment's map, if it has one."""


@dataclass(frozen=True)
class Experiment:
    """A question, and how its answer is read off the runs."""

    name: str
    question: str
    arms: Callable[[Scale], tuple[Arm, ...]]
    answer: Callable[["Comparison"], str]
    """A sentence computed from the results."""
    paper: str
    """The meaning of the figures in the paper's column."""
    reference: str | None = None
    """The arm that the others are compared with; None: the first."""
    paper_epochs: int = 300
    """Epochs of the ImageNet recipe at paper scale."""
    axis: str | None = None
    """The meaning of `Arm.x`: the title of the figure's axis."""
    paper_curve: Mapping[float, float] = field(default_factory=dict)
    """The paper's figures along that axis, percent; also those that no arm has."""
    cell_axes: tuple[str, str] | None = None
    """The meaning of `Arm.cell`: the titles of the map's rows and columns."""
    note: str = ""
    """A remark on the comparison beside the table."""


class Run(NamedTuple):
    """One training run of a grid."""

    experiment: str
    scale: str
    arm: str
    seed: int
    flags: tuple[str, ...]
    """Flags of `byol_bnfree.train`, all but folders."""
    settings: str
    """Checksum of the settings, but for the seed."""

    @property
    def name(self) -> str:
        """The name of its work folder; other settings of an arm make another."""
        return f"{self.arm}-seed{self.seed}-{self.settings}"


def load_experiment(name: str) -> Experiment:
    """The `EXPERIMENT` of the folder `name`."""
    return importlib.import_module(f"experiments.{name}").EXPERIMENT


def make_runs(experiment: Experiment, scale: Scale, seeds: Sequence[int]) -> list[Run]:
    """Every arm with every seed, seed by seed: an early stop leaves whole seeds.

    Raises: InputError for settings that cannot be.
    """
    base, arms = scale.flags(experiment.paper_epochs), experiment.arms(scale)
    checksums = arm_settings(experiment, scale)
    return [
        Run(
            experiment.name,
            scale.name,
            arm.name,
            seed,
            (*base, *arm.flags, f"--seed={seed}"),
            checksums[arm.name],
        )
        for index, seed in enumerate(seeds)
        for arm in arms
        if not scale.name.startswith("cpu")
        or arm.seeds_on_cpu is None
        or index < arm.seeds_on_cpu
    ]


def arm_settings(experiment: Experiment, scale: Scale) -> dict[str, str]:
    """Checksum of the settings of each arm, by name."""
    base = scale.flags(experiment.paper_epochs)
    return {
        arm.name: settings_checksum((*base, *arm.flags))
        for arm in experiment.arms(scale)
    }


def distinct(scale: Scale, arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """The arms, without those whose settings an earlier one has at this scale."""
    base, found = scale.flags(300), {}
    for arm in arms:
        found.setdefault(settings_checksum((*base, *arm.flags)), arm)
    return tuple(found.values())


def recipe_of(scale: Scale, flags: Sequence[str]) -> TrainConfig:
    """The settings that an arm of these flags has at a scale."""
    return parse_args((*scale.flags(300), *flags))


def settings_checksum(flags: Sequence[str]) -> str:
    """Eight digits of all settings that are not the defaults.

    A setting that a later version adds leaves those of earlier runs as they are, and
    two ways to say the same of the parts' norms are one. The type of activations counts
    as the one that it is on this machine: no comparison has two.
    """
    return _checksum(tuple(flags))


@functools.cache  # a large grid asks several times, and parsing takes its time
def _checksum(flags: tuple[str, ...]) -> str:
    config = parse_args(flags)
    norms = {f"{part}_norm": norm for part, norm in part_norms(config).items()}
    dtype = config.compute_dtype
    dtype = dtype_here() if dtype == "auto" else dtype
    usual = {"float32": TrainConfig.compute_dtype}  # the default before there was auto
    norms["compute_dtype"] = usual.get(dtype, dtype)
    config = dataclasses.replace(config, norm=TrainConfig.norm, **norms)
    found = _not_default(config, TrainConfig())
    text = json.dumps({k: v for k, v in found.items() if k not in _FREE})
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@functools.cache
def dtype_here() -> str:
    """The type that --compute-dtype=auto is on this machine.

    A process of its own asks the accelerator, whose memory this one must not take.
    """
    if not accelerators_possible():
        return "float32"
    ask = "from byol_bnfree import precision; print(precision.resolve_dtype('auto'))"
    command = [sys.executable, "-c", ask]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()[-1]


def _not_default(config: Any, default: Any) -> dict[str, Any]:
    found = {}
    for name in (setting.name for setting in dataclasses.fields(config)):
        value, usual = getattr(config, name), getattr(default, name)
        if dataclasses.is_dataclass(value):
            value, usual = _not_default(value, usual), {}
        if value != usual:
            found[name] = value
    return found
