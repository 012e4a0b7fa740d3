"""The data on which `evaluate --weights` measures, if --dataset does not name them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from byol_bnfree.config import TrainConfig
from byol_bnfree.encoder import Encoder
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.files import expanded
from byol_bnfree.interop.weights import description_of, holds_weights, is_run
from byol_bnfree.training.saved_run import read_run


def with_data(
    encoder: Encoder, config: EvaluateConfig, say: Callable[[str], None]
) -> Encoder:
    """Return the encoder of --weights with a configuration that names its data.

    A run in --workdir gives its data. Otherwise they are those that the weights were
    trained on, if the file names them. A line says which data are used.

    Raises:
      InputError: if nothing names the data.
    """
    workdir, weights = Path(config.workdir), expanded(config.weights or "")
    if is_run(workdir):
        run, _ = read_run(workdir)
        encoder = dataclasses.replace(encoder, config=_on_data_of(run, encoder.config))
        whose = f"the data of the run in {workdir}"
    else:
        whose = "the data set that the weights name"
        if config.dataset is None and not names_data(weights, encoder.config):
            raise InputError(
                f"{weights} does not say where the data of its training are, "
                f"and {workdir} is no run; give --dataset."
            )
    if config.dataset is None:
        say(f"data: {encoder.config.dataset}, {whose}")
    return encoder


def _on_data_of(run: TrainConfig, config: TrainConfig) -> TrainConfig:
    """Return an encoder's settings with the data of a run, in the encoder's shape."""
    shape = {name: getattr(config.data, name) for name in ("image_size", "channels")}
    return dataclasses.replace(
        config,
        dataset=run.dataset,
        data_dir=run.data_dir,
        on_bad_image=run.on_bad_image,
        data=dataclasses.replace(run.data, **shape),
    )


def names_data(weights: Path, config: TrainConfig) -> bool:
    """Return True if a run, or the settings read from weights, name their data.

    In files without a name the data set is the default, the generated shapes. The path
    of a folder in a file is that of another machine, or only its last part.
    """
    if not holds_weights(weights):
        return True
    if config.dataset != TrainConfig().dataset:
        return not config.dataset.startswith("folder:")
    return description_of(weights).get("dataset") is not None
