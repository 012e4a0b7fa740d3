"""Writes a work folder for networks of other projects."""

import dataclasses
from pathlib import Path
from typing import Any

from orbax.checkpoint import v1 as ocp

from byol_bnfree.config import TrainConfig, height_and_width
from byol_bnfree.errors import InputError
from byol_bnfree.files import write_json
from byol_bnfree.training.items import items_of
from byol_bnfree.training.manifest import write_manifest
from byol_bnfree.training.restore import describe_leaves
from byol_bnfree.training.workdir import prepare_workdir


def write_work_folder(
    workdir: str | Path,
    config: TrainConfig,
    fields: dict[str, Any],
    *,
    step: int,
    num_classes: int | None,
    examples: int,
    source: str,
) -> Path:
    """Write networks as the checkpoint of a run, without an optimizer.

    `evaluate`, `load_encoder` and `--init-from` read the folder. Training cannot resume
    in it, because that needs an optimizer's state.

    Args:
      workdir: a new or empty folder.
      config: settings of the networks; `data` has the image size and the channels.
      fields: some fields of a `TrainState`, such as `online_params`.
      step: optimizer steps of the networks' training.
      num_classes: classes of the probe; None without a probe.
      examples: number of training images, for the record.
      source: origin and licence of the networks, for source.json.

    Raises:
      InputError: if the folder is not empty, or cannot be written.
    """
    folder = prepare_workdir(workdir, "")
    if any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; give a new --workdir.")
    write_json(
        folder / "dataset.json",
        _dataset_record(config, num_classes, examples),
    )
    write_json(folder / "source.json", {"source": source, "step": step})
    checkpoint = folder.absolute() / "checkpoints" / str(step)
    ocp.save_checkpointables(
        checkpoint,
        items_of(fields),
        custom_metadata={"leaves": describe_leaves(fields)},
    )
    write_manifest(checkpoint)
    write_json(folder / "config.json", dataclasses.asdict(config))
    return folder


def _dataset_record(
    config: TrainConfig, num_classes: int | None, examples: int
) -> dict[str, Any]:
    """Return the content of dataset.json, as far as it is known of foreign networks."""
    height, width = height_and_width(config.data.image_size)
    return {
        "name": config.dataset,
        "num_classes": num_classes,
        "class_names": None,
        "image_shape": (height, width, config.data.channels),
        "train": {"split": config.data.train_split, "images": examples},
        "test": {"split": config.data.test_split, "images": None},
    }
