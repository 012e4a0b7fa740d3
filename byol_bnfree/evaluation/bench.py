"""The input of every protocol: an encoder, two splits, and a place for results."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from byol_bnfree import __version__
from byol_bnfree.config import TrainConfig
from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.data.prepared import absolute_root
from byol_bnfree.data.sources import Source, absolute
from byol_bnfree.encoder import Encoder
from byol_bnfree.evaluation.config import EvaluateConfig, reads_features
from byol_bnfree.evaluation.encoder_settings import encoder_settings
from byol_bnfree.evaluation.features import encoder_features
from byol_bnfree.evaluation.images.asked import reading
from byol_bnfree.evaluation.kept.arrays import cached
from byol_bnfree.evaluation.kept.fitted import (
    Fitted,
    classifier_description,
    classifier_path,
    save_fitted,
)
from byol_bnfree.evaluation.kept.store import Row, Store
from byol_bnfree.evaluation.kept.unfinished import Unfinished
from byol_bnfree.evaluation.methods.logistic import Fit, fit_logistic
from byol_bnfree.evaluation.outcome import Outcome, ends_of_ranges
from byol_bnfree.evaluation.shown.sentence import KINDS, sentence
from byol_bnfree.files import file_name, strict
from byol_bnfree.own_code import code_of, model_code

# Raise a number when a change of code changes the results of its protocol. Results of
# the older revision are then measured again.
REVISIONS = {
    "knn": 3,
    "linear": 3,
    "linear_cached": 3,
    "semi_supervised": 4,
    "finetune": 4,
    "supervised": 4,
    "robustness": 3,
    "transfer": 4,
    "segmentation": 4,
    "depth": 4,
    "detection": 4,
}
SUPERVISED = "supervised"
"""A protocol, and the network that it trains."""
FITTING = (  # protocols that fit a classifier that can be saved
    *("linear", "linear_cached", "semi_supervised", "finetune", "supervised"),
    "transfer",
)


@dataclass(frozen=True)
class Bench:
    """An encoder on a data set. Features are extracted once and stored on disk."""

    config: EvaluateConfig
    encoder: Encoder
    network: str
    """online, target, random (the untrained encoder), or supervised (the same after
    training with labels)."""
    train: Source
    test: Source
    mesh: Mesh
    store: Store
    folder: Path
    say: Callable[[str], None]

    @property
    def num_classes(self) -> int:
        """Number of classes. `open_splits` has checked that there are labels."""
        return self.train.num_classes

    @cached_property
    def train_features(self) -> Float[np.ndarray, "n d"]:
        """Features of whole training images, in inference mode."""
        return self.features(self.train)

    @cached_property
    def test_features(self) -> Float[np.ndarray, "m d"]:
        """Features of whole test images, in inference mode."""
        return self.features(self.test)

    @cached_property
    def train_labels(self) -> Int[np.ndarray, "n ..."]:
        """Labels of all training images, [n], or [n k] if images have several."""
        return self.train.labels()

    @cached_property
    def test_labels(self) -> Int[np.ndarray, "m ..."]:
        """Labels of all test images, [m], or [m k] if images have several."""
        return self.test.labels()

    @cached_property
    def linear_fit(self) -> Fit:
        """Logistic regression on the training features."""
        return fit_logistic(
            self.train_features,
            self.train_labels,
            self.num_classes,
            seed=self.config.seed,
        )

    def features(self, source: Source) -> Float[np.ndarray, "n d"]:
        """Return the features of all images of a source; store them in the folder.

        They are float16 with `half_precision` and float32 otherwise.
        """
        dtype = "float16" if self.config.half_precision else "float32"
        parts = (self.fingerprint, source.fingerprint, dtype, __version__, *self.code)
        key = checksum(*parts, *self.of_file.values())
        name = f"{self.network}-{self.encoder.step}-{source.split}-{key}"
        path = self.folder / "features" / f"{file_name(name)}.npz"

        def extract() -> np.ndarray:
            """Compute the features [n d] and print a line about it."""
            # A batch larger than both splits would be padding.
            most = max(len(self.train), len(self.test))
            place = f"{source.name} {source.split}"
            self.say(f"features of {len(source):,} images, {place}, {self.network}")
            return encoder_features(
                self.encoder,
                source,
                self.mesh,
                batch_size=min(self.config.batch_size, most),
                dtype=dtype,
            )

        return cached(path, extract)

    def drawn(self) -> tuple[Path, str]:
        """Return the folder for pictures, and the ending of their names."""
        ending = f"-{self.network}" if self.network in ("random", SUPERVISED) else ""
        return self.folder.parent, ending

    @cached_property
    def fingerprint(self) -> str:
        """A checksum of the encoder's weights and statistics."""
        return checksum(*jax.tree.leaves(self.encoder.variables))

    @cached_property
    def code(self) -> tuple[str, ...]:
        """A checksum of the user's program of --model; () without one.

        An edit may keep all weights and change what the encoder computes.
        """
        return model_code(self.encoder.config)

    @cached_property
    def of_file(self) -> Row:
        """A checksum of the encoder's settings with --weights; {} without.

        A run fixes them, but two files may hold equal arrays for other networks.
        """
        if self.config.weights is None:
            return {}
        return {"encoder": checksum(encoder_settings(self.encoder.config))}

    def identity(self, protocol: str, settings: Row) -> Row:
        """Describe a measurement.

        Two measurements with equal identities are the same.
        """
        if self.config.half_precision and reads_features(protocol, self.config):
            settings = settings | {"dtype": "float16"}
        # The views of pre-training may be a program of the user too.
        views = settings.get("augmentation") == "pretraining"
        code = code_of(self.encoder.config) if views else self.code
        train = self.config.train_split or self.train.split
        test = self.config.test_split or self.test.split
        return {
            "protocol": protocol,
            "dataset": self.train.name,
            "location": self.train.location,
            "train": data_identity(self.train, train),
            "test": data_identity(self.test, test),
            "revision": REVISIONS[protocol],
            "version": __version__,
            "network": self.network,
            "step": self.encoder.step,
            "weights": self.fingerprint,
            **self.of_file,
            **({"code": list(code)} if code else {}),
            "seed": self.config.seed,
            "settings": settings,
        }

    def unfinished(self, protocol: str, settings: Row) -> Unfinished:
        """Return the folder that keeps the intermediate results of a measurement."""
        name = f"{protocol}-{checksum(self.identity(protocol, settings))}"
        return Unfinished(self.folder / "unfinished" / name)

    def measure(
        self,
        protocol: str,
        settings: Row,
        make: Callable[[], Outcome],
        keep: bool = False,
    ) -> Row:
        """Return the stored result of a protocol, or run `make()` and store its result.

        With `keep`, what was fitted is saved, as with --save.

        The seconds are those of this process. They include the extraction of features
        that were not stored. They exclude the work of an interrupted evaluation.
        """
        identity = self.identity(protocol, settings)
        path = classifier_path(self.folder, identity)
        save = keep or self.config.save
        unsaved = save and protocol in FITTING
        if unsaved:  # there may be no file, or a damaged one
            unsaved = classifier_description(path) != self._description(identity)
        again = self.config.again or unsaved
        row = None if again else self.store.find(identity)
        if row is not None:
            self.say(f"{sentence(row)}, stored {row['measured']}")
        else:
            began = time.perf_counter()
            kinds = [str(settings[key]) for key in KINDS if key in settings]
            what = " ".join([*kinds, self.train.name, self.network])
            self.say(f"{protocol:<14} {what}: measuring ...")
            outcome = make()
            seconds = round(time.perf_counter() - began, 2)
            measured = outcome._asdict()
            fitted = measured.pop("fitted")
            if save and fitted is not None:
                self._save(path, fitted, identity)
            row = self.store.add(identity, **measured, seconds=seconds)
            # Not before the result is stored: until then, a fit can be resumed.
            self.unfinished(protocol, settings).remove()
            self.say(sentence(row))
        if (note := ends_of_ranges(row["chosen"], row["sweep"])) is not None:
            self.say(f"note: {note}")
        return row

    def _save(self, path: Path, fitted: Fitted, identity: Row) -> None:
        """Save a classifier for `predict`."""
        if fitted.variables is None and self.network == "random":
            # No checkpoint holds the variables of an untrained encoder.
            fitted = fitted._replace(variables=self.encoder.variables)
        save_fitted(path, fitted, self._description(identity))
        self.say(f"classifier in {path}")

    def _description(self, identity: Row) -> Row:
        """Describe a saved classifier."""
        several = self.train_labels.ndim == 2
        names = list(self.train.class_names)
        data = data_of(self.encoder.config, self.config)
        return strict(identity | {"classes": names, "several": several, "data": data})


def data_of(run: TrainConfig, config: EvaluateConfig) -> dict[str, str | None]:
    """Return the flags that name the data of an evaluation of a run."""
    read = reading(
        run,
        config.dataset,
        config.data_dir,
        train_split=config.train_split,
        test_split=config.test_split,
    )
    return {
        "dataset": absolute(read.dataset),
        "data_dir": absolute_root(read.data_dir),
        "train_split": read.data.train_split,
        "test_split": read.data.test_split,
    }


def data_identity(source: Source, split: str) -> Row:
    """Describe a split. The fingerprint changes with any image, label or file."""
    return {"split": split, "images": len(source), "fingerprint": source.fingerprint}
