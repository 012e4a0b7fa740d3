"""The settings and the data of a run, read back from its work folder."""

import dataclasses
import json
from pathlib import Path

from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import InputError, why_not_read
from byol_bnfree.saved_config import config_from_dict, placed
from byol_bnfree.training.parts import DataShape
from byol_bnfree.training.schedules import total_steps
from byol_bnfree.training.workdir import check_utf8


def read_run(workdir: Path) -> tuple[TrainConfig, DataShape]:
    """Read a run's configuration and data; `InputError` if the folder is no run."""
    check_utf8(workdir)
    if not workdir.exists():
        is_name = len(workdir.parts) == 1
        hint = " (load_pretrained reads shipped weights by name)" if is_name else ""
        raise InputError(
            f"{workdir} is not the work folder of a run (No such file or directory); "
            f"give the folder that `python -m byol_bnfree.train` prints in its first "
            f"line, or a file of weights{hint}."
        )
    try:
        saved = json.loads((workdir / "config.json").read_text())
        data = json.loads((workdir / "dataset.json").read_text())
        shape = DataShape(
            data["train"]["images"], data["num_classes"], tuple(data["image_shape"])
        )
        if wrong := shape.wrong():
            raise TypeError(f"its {wrong[0]}")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{workdir} is not the work folder of a run: its config.json or "
            f"dataset.json cannot be read ({why_not_read(error)}); give the folder "
            f"that `python -m byol_bnfree.train` prints in its first line."
        ) from error
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{workdir / 'dataset.json'} is not that of a run ({error}); restore it, "
            f"or give the folder of a run."
        ) from error
    config = config_from_dict(TrainConfig, saved)
    return dataclasses.replace(config, dataset=placed(config.dataset, data)), shape


def unfinished(workdir: Path, step: int) -> str | None:
    """Return a sentence if the checkpoint of `step` is not the end of a run.

    `workdir` may also hold weights without a run, or networks of other projects, whose
    training is not resumed here.
    """
    ended = any((workdir / name).exists() for name in ("summary.json", "source.json"))
    if ended or not (workdir / "checkpoints").is_dir():
        return None
    config, data = read_run(workdir)
    total = total_steps(config, data.num_examples)
    if step >= total:
        return None
    return (
        f"{workdir} is not finished: step {step} of {total}; the same training command "
        f"resumes it"
    )
