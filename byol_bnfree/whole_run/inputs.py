"""The inputs of a run: its data, its full settings, and its initial weights."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from flax import linen as nn

from byol_bnfree.assembly import encoder_name
from byol_bnfree.config import TrainConfig, image_size_of
from byol_bnfree.data.channels import channel_moments, channel_notes
from byol_bnfree.data.check import odd_pictures, smaller_copies
from byol_bnfree.data.prepared import absolute_root
from byol_bnfree.data.records import needs_test
from byol_bnfree.data.sources import DataSet, Source, absolute
from byol_bnfree.files import expanded
from byol_bnfree.interop.start import read_start
from byol_bnfree.machine.precision import resolve_dtype
from byol_bnfree.own_code import code_of, full_path
from byol_bnfree.own_encoder import GIVEN
from byol_bnfree.training import distributed
from byol_bnfree.training.dataset_file import describe_data
from byol_bnfree.training.extension import resolve_extension
from byol_bnfree.training.parts import DataShape
from byol_bnfree.training.program import Program
from byol_bnfree.training.restore import committed_steps


class Data(NamedTuple):
    """Both splits of the data set.

    `test` is None if there is nothing to evaluate on.
    """

    train: Source
    test: Source | None
    description: dict[str, Any]
    """The content of dataset.json."""

    @property
    def sources(self) -> list[Source]:
        """The sources of both splits, if both exist."""
        return [source for source in self[:2] if source is not None]

    def close(self) -> None:
        """Close both sources."""
        for source in self.sources:
            source.close()

    @property
    def facts(self) -> dict[str, Any]:
        """What all processes of a run must have equal; places may differ."""
        return {
            f"{part} of the {source.split} split": value
            for source in self.sources
            for part, value in (
                ("number of pictures", len(source)),
                ("checksum", source.identity),
            )
        }

    @property
    def shape(self) -> DataShape:
        """The sizes that networks and schedules depend on."""
        return DataShape(
            len(self.train), self.train.num_classes, self.train.image_shape
        )


def open_data(data_set: DataSet) -> Data:
    """Open both splits, or only the training split if nothing is evaluated."""
    config = data_set.config
    train = data_set.open("train")
    test = data_set.open("test") if needs_test(config) else None
    notes = data_set.notes + odd_pictures(train) + smaller_copies(train)
    moments = channel_moments(train) if config.augment.measured else None
    notes += channel_notes(config.augment, train.image_shape[-1], moments)
    if test is None and needs_test(config):
        notes.append(
            "no class has a second picture to hold out, so nothing is evaluated"
        )
    description = describe_data(data_set, train, test, notes)
    return Data(train, test, description | ({"moments": moments} if moments else {}))


def resolved(
    config: TrainConfig,
    data: Data,
    encoder: nn.Module | None,
    begun: dict[str, Any],
) -> TrainConfig:
    """Fill in the settings that depend on data, devices and an interrupted run.

    These are the sizes of the images, the dtype of activations, the steps of an
    extension, full paths of the data, and full paths and checksums of users' own code.
    """
    config = dataclasses.replace(
        config,
        dataset=absolute(config.dataset),
        data_dir=absolute_root(config.data_dir),
    )
    if encoder is not None:
        config = dataclasses.replace(config, encoder=GIVEN + type(encoder).__name__)
    elif config.encoder is not None and not config.encoder.startswith(GIVEN):
        config = dataclasses.replace(config, encoder=full_path(config.encoder))
    if config.augment.function is not None:
        function = full_path(config.augment.function)
        augment = dataclasses.replace(config.augment, function=function)
        config = dataclasses.replace(config, augment=augment)
    if config.augment.measured:
        mean, std = data.description["moments"]
        augment = dataclasses.replace(config.augment, mean=mean, std=std)
        config = dataclasses.replace(config, augment=augment)
    height, width, channels = data.train.image_shape
    size = image_size_of(height, width)
    images = dataclasses.replace(config.data, image_size=size, channels=channels)
    dtype = config.compute_dtype
    if dtype == "auto":
        # A resumed run keeps its dtype, on other devices too.
        dtype = begun.get("compute_dtype") or resolve_dtype(dtype)
    config = dataclasses.replace(
        config, data=images, compute_dtype=dtype, own_code=code_of(config)
    )
    return resolve_extension(config, len(data.train))


def run_name(config: TrainConfig) -> str:
    """Return data, network, norm and seed, to name a new work folder."""
    dataset = Path(config.dataset.removeprefix("folder:")).name
    method = "" if config.objective == "byol" else f"{config.objective}-"
    network = f"{encoder_name(config)}-{config.norm}"
    return f"{dataset}-{method}{network}-seed{config.seed}"


def begins_from_weights(config: TrainConfig) -> bool:
    """Return True if --init-from is given and no committed checkpoint is resumed."""
    resumed = expanded(config.workdir or "") / "checkpoints"
    return config.init_from is not None and not (
        config.workdir and committed_steps(resumed)
    )


def from_weights(program: Program) -> Program:
    """Put the weights of --init-from into the initial state.

    A run that resumes already has weights.
    """
    config = program.config
    if not begins_from_weights(config):
        return program
    start = read_start(config, program.abstract_state)
    for line in start.lines:
        distributed.say(line)
    return program._replace(init=lambda batch: start.put_into(program.init(batch)))
