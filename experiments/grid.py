"""An experiment's question, its arms, and the runs they make."""

import dataclasses
import functools
import hashlib
import importlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from byol_bnfree.assembly import encoder_name
from byol_bnfree.config import HOW_NOT_WHAT, TrainConfig
from byol_bnfree.own_code import code_of
from byol_bnfree.settings.norms import part_norms
from experiments.parsing import forget, parsed
from experiments.scales import Scale

if TYPE_CHECKING:
    from experiments.comparison import Comparison

PAPER_LEARNED = 10.0
"""Percent on ImageNet. Rows that failed in the papers are below it."""

_FREE = HOW_NOT_WHAT | {"seed"}  # runs that differ only in these have equal settings


@dataclass(frozen=True)
class Arm:
    """One of the settings that an experiment compares."""

    name: str
    flags: tuple[str, ...]
    """Flags of `byol_bnfree.train`, in addition to those of the scale."""
    paper: float | None = None
    """Accuracy in the paper, percent."""
    paper_fails: bool = False
    """The paper says that the row fails, and has no accuracy of it."""
    x: float | None = None
    """Place of the arm on the axis of the experiment's figure, if it has one."""
    family: str = ""
    """Name of the curve that the arm belongs to, or of the map."""
    starts: tuple[str, ...] = ()
    """Other families whose first point this arm is. Their rows are compared with it."""
    cell: tuple[str, str] | None = None
    """Row and column in the experiment's map, if it has one."""

    @property
    def in_paper(self) -> bool:
        """True if the paper has the row."""
        return self.paper_fails or self.paper is not None

    @property
    def fails_in_paper(self) -> bool:
        """True if the row fails in the paper: it has no accuracy there, or chance's."""
        return self.paper_fails or (
            self.paper is not None and self.paper <= PAPER_LEARNED
        )


@dataclass(frozen=True)
class Experiment:
    """A question, its arms, and how to answer it from the runs."""

    name: str
    question: str
    arms: Callable[[Scale], tuple[Arm, ...]]
    answer: Callable[["Comparison"], str]
    """Returns a sentence that answers the question from the results."""
    paper: str
    """The source and the conditions of the figures in the paper's column."""
    reference: str | None = None
    """The arm that the others are compared with. None takes the first."""
    paper_epochs: int = 300
    """Epochs of the ImageNet recipe at paper scale."""
    axis: str | None = None
    """Title of the figure's axis, along which `Arm.x` lies."""
    paper_curves: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    """By method: the paper's figures along that axis, percent, including values without
    an arm."""
    cell_axes: Callable[[Scale], tuple[str, str]] | None = None
    """Titles of the map's rows and columns at a scale, which `Arm.cell` names."""
    paper_columns: str | None = None
    """Title of the columns of the paper's map, where its unit is another."""
    byol: bool = True
    """False if no arm is BYOL."""
    note: str = ""
    """A remark that stands beside the table."""
    what: Mapping[str, str] = field(default_factory=dict)
    """By scale: data, network and length in words, where they are not the scale's."""
    epochs: Mapping[str, int] = field(default_factory=dict)
    """By scale: the epochs of a run, where they are not the scale's."""


class Run(NamedTuple):
    """A training run of a grid."""

    experiment: str
    scale: str
    arm: str
    seed: int
    flags: tuple[str, ...]
    """Flags of `byol_bnfree.train`, without folders."""
    settings: str
    """Checksum of the settings, without the seed."""

    @property
    def name(self) -> str:
        """Name of the work folder. It changes with the settings of the arm."""
        return f"{self.arm}-seed{self.seed}-{self.settings}"

    @property
    def training(self) -> tuple[str, str, int]:
        """What is trained. It is equal for equal runs of different experiments."""
        return self.scale, self.settings, self.seed


def load_experiment(name: str) -> Experiment:
    """Return the `EXPERIMENT` of the folder `name`."""
    return importlib.import_module(f"experiments.{name}").EXPERIMENT


def make_runs(experiment: Experiment, scale: Scale, seeds: Sequence[int]) -> list[Run]:
    """List every arm with every seed. Seeds come one after another, so a grid that is
    stopped early has whole seeds.

    Raises:
      InputError: for impossible settings.
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
        for seed in seeds
        for arm in arms
    ]


def arm_settings(experiment: Experiment, scale: Scale) -> dict[str, str]:
    """Return the checksum of each arm's settings, by name."""
    base = scale.flags(experiment.paper_epochs)
    return {
        arm.name: settings_checksum((*base, *arm.flags))
        for arm in experiment.arms(scale)
    }


def distinct(scale: Scale, arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Return the arms, without those that repeat an earlier arm's settings."""
    base, found = scale.flags(300), {}
    for arm in arms:
        found.setdefault(settings_checksum((*base, *arm.flags)), arm)
    return tuple(found.values())


def recipe_of(scale: Scale, flags: Sequence[str]) -> TrainConfig:
    """Return the settings of an arm with these flags at a scale."""
    return parsed((*scale.flags(300), *flags))


def settings_checksum(flags: Sequence[str]) -> str:
    """Return eight hexadecimal digits that identify all settings without default
    values.

    A setting that a later version adds does not change the checksum of earlier runs.
    Different flags for the same norms of the parts give the same checksum. A user's
    encoder counts by its code. Every scale names the dtype of activations.
    """
    return _checksum(tuple(flags))


_PARSING = threading.Lock()


def checksum_now(flags: Sequence[str]) -> str:
    """Return `settings_checksum` of the files of recipes and encoders as they are now.

    The usual one is remembered, as a large grid asks several times. Threads may ask.
    """
    with _PARSING:  # the parser of command lines serves one thread at a time
        forget()
        return _checksum.__wrapped__(tuple(flags))


@functools.cache  # a large grid asks several times
def _checksum(flags: tuple[str, ...]) -> str:
    config = parsed(flags)
    norms = {f"{part}_norm": norm for part, norm in part_norms(config).items()}
    config = dataclasses.replace(config, norm=TrainConfig.norm, **norms)
    if config.compute_dtype == "float32":  # the default before "auto" existed
        config = dataclasses.replace(config, compute_dtype=TrainConfig.compute_dtype)
    found = _not_default(config, TrainConfig())
    if config.encoder is not None:  # the file may move, but its code must not change
        found |= {"encoder": encoder_name(config), "own_code": code_of(config)}
    text = json.dumps({k: v for k, v in found.items() if k not in _FREE})
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _not_default(config: Any, default: Any) -> dict[str, Any]:
    found = {}
    for name in (setting.name for setting in dataclasses.fields(config)):
        value, usual = getattr(config, name), getattr(default, name)
        if dataclasses.is_dataclass(value):
            value, usual = _not_default(value, usual), {}
        if value != usual:
            found[name] = value
    return found
