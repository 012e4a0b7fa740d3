"""What protocols are given: one encoder, two splits, and a place to keep results."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from byol_bnfree.data.augment import normalize
from byol_bnfree.data.sources import Source
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.cache import cached, checksum
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.features import extract_features
from byol_bnfree.evaluation.store import Row, Store
from byol_bnfree.pretrained import Encoder
from byol_bnfree.training.mesh import batch_sharding, replicated


class Outcome(NamedTuple):
    """What a protocol found; `chosen` was picked on images held out of training."""

    figures: dict[str, Any]
    chosen: dict[str, Any]


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
        """Of the data set; `check_labels` has seen that there are labels."""
        return self.train.num_classes

    @cached_property
    def train_features(self) -> Float[np.ndarray, "n d"]:
        """Of whole training images, in inference mode."""
        return self.features(self.train)

    @cached_property
    def test_features(self) -> Float[np.ndarray, "m d"]:
        """Of whole test images, in inference mode."""
        return self.features(self.test)

    @cached_property
    def train_labels(self) -> Int[np.ndarray, " n"]:
        """Of all training images."""
        return self.train.labels()

    @cached_property
    def test_labels(self) -> Int[np.ndarray, " m"]:
        """Of all test images."""
        return self.test.labels()

    def features(self, source: Source) -> Float[np.ndarray, "n d"]:
        """Of all images of a source; from the work folder if they are there."""
        dtype = "float16" if self.config.half_precision else "float32"
        key = checksum(self.fingerprint, describe(source), dtype)
        name = f"{self.network}-{self.encoder.step}-{source.split}-{key}.npz"
        path = self.folder / "features" / name.replace("/", "-")
        devices = self.mesh.shape["data"]
        return cached(
            path,
            lambda: extract_features(
                self.encode,
                source,
                np.arange(len(source)),
                -(-self.config.batch_size // devices) * devices,
                sharding=batch_sharding(self.mesh),
                dtype=dtype,
            ),
        )

    @cached_property
    def variables(self) -> Any:
        """The encoder's, on all devices."""
        return jax.device_put(self.encoder.variables, replicated(self.mesh))

    @cached_property
    def encode(self) -> Callable:
        """Compiled: uint8 images to features, inference mode."""
        module, augment = self.encoder.module, self.encoder.config.augment

        @jax.jit
        def apply(variables, images):
            pixels = normalize(images.astype(jnp.float32) / 255, augment)
            return module.apply(variables, pixels, False)

        return lambda images: apply(self.variables, images)

    @cached_property
    def fingerprint(self) -> str:
        """Of the encoder's weights and statistics."""
        return checksum(*jax.tree.leaves(self.encoder.variables))

    def identity(self, protocol: str, settings: Row) -> Row:
        """What makes two measurements the same one."""
        return {
            "protocol": protocol,
            "dataset": self.train.name,
            "train": {"split": self.train.split, "images": len(self.train)},
            "test": {"split": self.test.split, "images": len(self.test)},
            "network": self.network,
            "step": self.encoder.step,
            "weights": self.fingerprint,
            "seed": self.config.seed,
            "settings": settings,
        }

    def measure(self, protocol: str, settings: Row, make: Callable[[], Outcome]) -> Row:
        """The stored figure of a protocol, or that of `make()`, which is stored.

        Its seconds are all that was needed, features too unless they were kept.
        """
        identity = self.identity(protocol, settings)
        row = None if self.config.again else self.store.find(identity)
        if row is None:
            began = time.perf_counter()
            outcome = make()
            seconds = round(time.perf_counter() - began, 2)
            row = self.store.add(
                identity,
                figures=outcome.figures,
                chosen=outcome.chosen,
                seconds=seconds,
            )
        self.say(sentence(row))
        return row


def sentence(row: Row) -> str:
    """A row of the store as one line of text."""
    identity = row["identity"]
    figures = ", ".join(
        f"{name} {100 * value:.2f} %"
        for name, value in row["figures"].items()
        if isinstance(value, float)
    )
    chosen = ", ".join(f"{k} {v:.4g}" for k, v in row["chosen"].items())
    return (
        f"{identity['protocol']:<14} {identity['dataset']} {identity['network']}: "
        f"{figures}{'; ' if chosen else ''}{chosen}  ({row['seconds']:.1f} s)"
    )


def describe(source: Source) -> list[Any]:
    """What tells one split from another: name, sizes, labels, and a few pictures."""
    some = np.linspace(0, len(source) - 1, 8).astype(int)
    return [
        source.name,
        source.split,
        *source.image_shape,
        checksum(source.labels(), source.images(some)),
    ]


def check_labels(train: Source, test: Source) -> None:
    """`InputError` without labels, or for a class that only the test images have."""
    for source in (train, test):
        if source.num_classes is None or (source.labels() < 0).any():
            raise InputError(
                f"the {source.split} split of {source.name} has images without label; "
                f"evaluation compares with labels, give a set with one for each image."
            )
    known, asked = np.unique(train.labels()), np.unique(test.labels())
    missing = np.setdiff1d(asked, known)
    if test.class_names != train.class_names:
        missing_names = sorted(set(test.class_names) - set(train.class_names))
        raise InputError(
            f"the classes of {test.name} {test.split} are not those of {train.split} "
            f"({', '.join(missing_names) or 'another order'}); make them the same."
        )
    if len(missing):
        raise InputError(
            f"class {test.class_names[missing[0]]!r} in the {test.split} split of "
            f"{test.name} has no image in {train.split}; add some or leave it out."
        )


def check_images(encoder: Encoder, source: Source) -> None:
    """`InputError` unless the encoder was made for images of this shape."""
    data = encoder.config.data
    wanted = (data.image_size, data.image_size, data.channels)
    if source.image_shape != wanted:
        shapes = ["x".join(map(str, shape)) for shape in (source.image_shape, wanted)]
        raise InputError(
            f"images of {source.name} are {shapes[0]} and the encoder was made for "
            f"{shapes[1]}; convert them, or train an encoder for them."
        )
