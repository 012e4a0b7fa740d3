"""The input of the protocols: one encoder, two splits, and a place for results."""

import importlib.metadata
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.data.sources import Source
from byol_bnfree.encoder import Encoder
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.features import encoder_features
from byol_bnfree.evaluation.kept.cache import cached
from byol_bnfree.evaluation.kept.fitted import Fitted, classifier_path, save_fitted
from byol_bnfree.evaluation.kept.store import Row, Store
from byol_bnfree.evaluation.kept.unfinished import Unfinished
from byol_bnfree.evaluation.methods.logistic import Fit, fit_logistic
from byol_bnfree.evaluation.outcome import Outcome

# To be raised when a change of code changes a protocol's figures: older ones are then
# measured again.
REVISIONS = {
    "knn": 3,
    "linear": 3,
    "linear_cached": 3,
    "semi_supervised": 3,
    "finetune": 3,
    "supervised": 3,
    "robustness": 3,
    "transfer": 3,
}
FITTING = (  # protocols that leave a classifier
    *("linear", "linear_cached", "semi_supervised", "finetune", "supervised"),
    "transfer",
)
KINDS = ("share", "corruption", "method")  # settings that name a kind of measurement


@dataclass(frozen=True)
class Bench:
    """An encoder on a data set. Features are extracted once and kept on disk."""

    config: EvaluateConfig
    encoder: Encoder
    network: str
    """online, target or random (the untrained encoder)."""
    train: Source
    test: Source
    mesh: Mesh
    store: Store
    folder: Path
    say: Callable[[str], None]

    @property
    def num_classes(self) -> int:
        """Number of classes; `open_splits` has checked that there are labels."""
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
        """Labels of all training images; a row for an image that has several."""
        return self.train.labels()

    @cached_property
    def test_labels(self) -> Int[np.ndarray, "m ..."]:
        """Labels of all test images; a row for an image that has several."""
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
        """Features of all images of a source; the work folder keeps them."""
        dtype = "float16" if self.config.half_precision else "float32"
        key = checksum(self.fingerprint, source.fingerprint, dtype, version())
        name = f"{self.network}-{self.encoder.step}-{source.split}-{key}.npz"
        path = self.folder / "features" / name.replace("/", "-")

        def extract() -> np.ndarray:
            place = f"{source.name} {source.split}"
            self.say(f"features of {len(source):,} images, {place}, {self.network}")
            return encoder_features(
                self.encoder,
                source,
                self.mesh,
                batch_size=self.config.batch_size,
                dtype=dtype,
            )

        return cached(path, extract)

    @cached_property
    def fingerprint(self) -> str:
        """A checksum of the encoder's weights and statistics."""
        return checksum(*jax.tree.leaves(self.encoder.variables))

    def identity(self, protocol: str, settings: Row) -> Row:
        """The settings that make two measurements the same one."""
        train = self.config.train_split or self.train.split
        test = self.config.test_split or self.test.split
        return {
            "protocol": protocol,
            "dataset": self.train.name,
            "location": self.train.location,
            "train": describe(self.train, train),
            "test": describe(self.test, test),
            "revision": REVISIONS[protocol],
            "version": version(),
            "network": self.network,
            "step": self.encoder.step,
            "weights": self.fingerprint,
            "seed": self.config.seed,
            "settings": settings,
        }

    def unfinished(self, protocol: str, settings: Row) -> Unfinished:
        """Where a measurement that takes long keeps what it has."""
        name = f"{protocol}-{checksum(self.identity(protocol, settings))}"
        return Unfinished(self.folder / "unfinished" / name)

    def measure(self, protocol: str, settings: Row, make: Callable[[], Outcome]) -> Row:
        """The stored figure of a protocol, or that of `make()`, which is stored.

        Its seconds are those of this process: all that was needed, features too unless
        they were kept, and without what an interrupted evaluation had done before.
        """
        identity = self.identity(protocol, settings)
        path = classifier_path(self.folder, identity)
        unsaved = self.config.save and protocol in FITTING and not path.exists()
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
            if self.config.save and fitted is not None:
                self._save(path, fitted, identity)
            row = self.store.add(identity, **measured, seconds=seconds)
            self.unfinished(protocol, settings).remove()
            self.say(sentence(row))
        return row

    def _save(self, path: Path, fitted: Fitted, identity: Row) -> None:
        """Keep a classifier for `predict`."""
        if fitted.variables is None and self.network == "random":
            # No checkpoint has these.
            fitted = fitted._replace(variables=self.encoder.variables)
        several = self.train_labels.ndim == 2
        names = list(self.train.class_names)
        save_fitted(path, fitted, identity | {"classes": names, "several": several})
        self.say(f"classifier in {path}")


def sentence(row: Row) -> str:
    """A row of the store as one line of text."""
    identity, settings = row["identity"], row["identity"]["settings"]
    kinds = [settings[key] for key in KINDS if key in settings]
    subject = " ".join(map(str, [*kinds, identity["dataset"], identity["network"]]))
    figures = ", ".join(
        f"{name} {100 * value:.2f} %"
        for name, value in row["figures"].items()
        if isinstance(value, float)
    )
    chosen = ", ".join(f"{k} {v:.4g}" for k, v in row["chosen"].items())
    return (
        f"{identity['protocol']:<14} {subject}: "
        f"{figures}{'; ' if chosen else ''}{chosen}  ({row['seconds']:.1f} s)"
    )


def describe(source: Source, split: str) -> Row:
    """A description of a split: any image, label or file changes it."""
    return {"split": split, "images": len(source), "fingerprint": source.fingerprint}


def version() -> str:
    """The version of this package."""
    try:
        return importlib.metadata.version("byol_bnfree")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
