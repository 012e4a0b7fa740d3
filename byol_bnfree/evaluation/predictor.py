"""A fitted classifier together with its encoder: `load_predictor`."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.data.sources import Source
from byol_bnfree.encoder import (
    Encoder,
    abstract_variables,
    encoder_module,
    load_encoder,
    read_run,
)
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.features import extract_features
from byol_bnfree.evaluation.kept.fitted import FOLDER, Fitted, read_fitted
from byol_bnfree.files import expanded
from byol_bnfree.interop.trees import flat, misfits
from byol_bnfree.own_code import changed_code
from byol_bnfree.own_encoder import check_encoder
from byol_bnfree.represent import represent


@dataclass(frozen=True, eq=False)
class Predictor:
    """Maps images to class probabilities. Call it on images or on a whole source."""

    encoder: Encoder
    fitted: Fitted
    class_names: tuple[str, ...]
    several: bool
    """True if an image may have several classes. Each class then has a sigmoid."""
    data: Mapping[str, str | None] = field(default_factory=dict)
    """The data set that it was fitted on: dataset, data_dir, train_split, test_split.
    Empty in files of earlier versions."""
    workdir: Path | None = None
    """The run of the encoder."""

    def __call__(self, images: Any) -> Float[Array, "b k"]:
        """Return class probabilities [b k] of images that `Encoder` accepts."""
        return self._probabilities(self._logits(self.encoder(images)))

    def on(self, source: Source, batch_size: int = 512) -> Float[np.ndarray, "n k"]:
        """Return class probabilities [n k] of all images of a source, whole."""
        module, variables = self.encoder.module, self.encoder.variables
        augment = self.encoder.config.augment

        @jax.jit
        def run(images):
            features = represent(module, variables, images, augment)
            return self._probabilities(self._logits(features))

        rows = np.arange(len(source))
        return extract_features(run, source, rows, min(batch_size, len(source)))

    def _logits(self, features: Array) -> Array:
        return features @ self.fitted.kernel + self.fitted.bias[None]

    @property
    def _probabilities(self) -> Any:
        return jax.nn.sigmoid if self.several else partial(jax.nn.softmax, axis=-1)


def load_predictor(path: str | Path, workdir: str | Path | None = None) -> Predictor:
    """Load a classifier that `evaluate --save` has saved.

    Args:
      path: RUN/evaluation/classifiers/NAME.npz.
      workdir: the run it was fitted on. None takes the run that contains the file.

    A warning says if the user's file of --model has changed since the classifier was
    fitted.

    Raises:
      InputError: if there is no classifier or no run, the run has been trained further
        since, or a fine-tuned encoder does not fit the run's network.
    """
    path = expanded(path)
    fitted, about = read_fitted(path)
    workdir = run_of(path) if workdir is None else expanded(workdir)
    config, data = read_run(workdir)
    code = about.get("code", ())
    if changed := changed_code(code, config, f"{path.name} was fitted"):
        warnings.warn(f"{changed}; the classes may differ.", stacklevel=2)
    # A fine-tuned network is in the file. A probe needs the encoder it was fitted on.
    if fitted.variables is not None:
        module = encoder_module(config)
        if config.encoder is not None:  # a file may have changed
            check_encoder(module, data.image_shape, config.encoder)
        wanted = flat(abstract_variables(module, data))
        if problems := misfits(flat(fitted.variables), wanted):
            raise InputError(
                f"{path} has another encoder than the run in {workdir}: {problems[0]}; "
                f"name the run that it was fitted on with --workdir."
            )
        encoder = Encoder(module, fitted.variables, config, about["step"])
    else:
        encoder = load_encoder(workdir, about["network"])
        if checksum(*jax.tree.leaves(encoder.variables)) != about["weights"]:
            raise InputError(
                f"{path} was fitted at step {about['step']}, but {workdir} has another "
                f"encoder, of step {encoder.step}; evaluate it again with --save."
            )
    classes, several = tuple(about["classes"]), about["several"]
    return Predictor(encoder, fitted, classes, several, about.get("data", {}), workdir)


def run_of(path: Path) -> Path:
    """Return the run that contains a classifier; `InputError` if it lies elsewhere."""
    folder = path.resolve().parent
    if folder.name != FOLDER:
        raise InputError(
            f"{path} does not lie in a run's evaluation/{FOLDER}; name the run with "
            f"--workdir."
        )
    return folder.parent.parent
