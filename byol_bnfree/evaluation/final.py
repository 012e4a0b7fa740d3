"""The accuracies at the end of a run: kNN and linear, on the test split."""

from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from byol_bnfree.data.sources import Source
from byol_bnfree.evaluation.features import (
    evaluation_indices,
    extract_features,
    first_images,
)
from byol_bnfree.evaluation.methods.knn import knn_accuracy
from byol_bnfree.evaluation.methods.logistic import QUICK_PENALTIES, logistic_evaluation
from byol_bnfree.represent import encoder_variables, represent
from byol_bnfree.training.mesh import batch_sharding, whole_multiple
from byol_bnfree.training.program import Program
from byol_bnfree.training.state import TrainState
from byol_bnfree.untrained import first_statistics

STATISTICS = 256  # images from which an untrained BatchNorm gets its statistics
QUICK_TRAIN, QUICK_TEST = 2048, 1024  # images of the kNN that is logged in training


class Features(NamedTuple):
    """Representations of both splits; float32."""

    train: Float[np.ndarray, "n d"]
    test: Float[np.ndarray, "m d"]


class Indices(NamedTuple):
    """Indices of the images in use, for both splits."""

    train: Int[np.ndarray, " n"]
    test: Int[np.ndarray, " m"]


class Evaluator:
    """Evaluates the online encoder of a state in inference mode.

    Images are whole and not augmented, and BatchNorm reads its running statistics. At
    most `evaluation.max_train` and `max_test` images are used, always the same ones.
    Images without a label (-1) are left out.
    """

    def __init__(self, program: Program, train: Source, test: Source | None):
        """Prepare the evaluation. With `test` None there is nothing to evaluate on."""
        self._program, self._train, self._test = program, train, test
        self._config = program.config.evaluation
        encoder, augment = program.network.encoder, program.config.augment
        self._represent = jax.jit(partial(represent, encoder, augment=augment))

    @property
    def possible(self) -> bool:
        """True if nothing stands in the way; see `obstacle`."""
        return self.obstacle is None

    @cached_property
    def obstacle(self) -> str | None:
        """The reason why there are no accuracies, in a sentence; None if there are.

        Training images of two classes are needed, and a test image with a label.
        """
        if self._test is None:
            return "there is no test split, so there are no accuracies"
        if (self._train.num_classes or 0) < 2:
            name = self._train.name
            return f"{name} has fewer than two classes, so there are no accuracies"
        if self._enough(self.quick):
            return None
        return (
            f"{self._train.name} has too few labels, so there are no accuracies: the "
            f"{self._train.split} split needs images of two classes, and the "
            f"{self._test.split} split needs an image with a label"
        )

    def _enough(self, indices: Indices) -> bool:
        classes = np.unique(self._train.labels(indices.train))
        return len(classes) > 1 and len(indices.test) > 0

    @property
    def chance(self) -> float | None:
        """Accuracy of the best constant prediction; None if there are no accuracies.

        It is the share of the largest class among the test images.
        """
        if not self.possible:
            return None
        counts = np.bincount(self._test.labels(self.used.test))
        return float(counts.max() / counts.sum())

    def features(self, state: TrainState) -> Features:
        """Return the representations of the images in use, for both splits."""
        return self._features(state, self.used)

    def knn(self, state: TrainState, features: Features | None = None) -> float:
        """Return the top-1 accuracy of the weighted kNN classifier, in [0, 1]."""
        features = features or self.features(state)
        return self._knn(features, self.used)

    def quick_knn(self, state: TrainState) -> float:
        """Return the kNN accuracy on few images, for a curve during training."""
        return self._knn(self._features(state, self.quick), self.quick)

    @cached_property
    def quick(self) -> Indices:
        """A fixed subset of both splits. Small pictures take a second on two cores.

        All images in use are taken if the subset has too few labels.
        """
        few = Indices(
            _labelled(self._train, min(QUICK_TRAIN, self._config.max_train)),
            _labelled(self._test, min(QUICK_TEST, self._config.max_test)),
        )
        return few if self._enough(few) else self.used

    def measured(self, quick: bool) -> dict[str, float]:
        """Return what a kNN accuracy depends on beside the state.

        `quick` is True for `quick_knn`. The images of the same number are the same.
        """
        images = self.quick if quick else self.used
        return {
            "train_images": len(images.train),
            "test_images": len(images.test),
            "k": self._config.knn_k,
            "temperature": self._config.knn_temperature,
        }

    @property
    def quick_is_all(self) -> bool:
        """True if `quick_knn` uses the same images as `knn`."""
        return all(map(np.array_equal, self.quick, self.used))

    def _features(self, state: TrainState, indices: Indices) -> Features:
        return Features(
            self._extract(state, self._train, indices.train),
            self._extract(state, self._test, indices.test),
        )

    def _knn(self, features: Features, indices: Indices) -> float:
        return knn_accuracy(
            features.train,
            self._train.labels(indices.train),
            features.test,
            self._test.labels(indices.test),
            num_classes=self._program.data.num_classes,
            k=self._config.knn_k,
            temperature=self._config.knn_temperature,
        )

    def linear(self, features: Features) -> float:
        """Return the top-1 accuracy of logistic regression, in [0, 1]."""
        figures = logistic_evaluation(
            features.train,
            self._train.labels(self.used.train),
            features.test,
            self._test.labels(self.used.test),
            num_classes=self._program.data.num_classes,
            seed=self._program.config.seed,
            strengths=tuple(len(features.train) * l2 for l2 in QUICK_PENALTIES),
        )
        return figures["top1"]

    def untrained(self, batch: dict[str, Any]) -> TrainState:
        """Return the random state of step 0, with `first_statistics` in its encoder.

        They are taken from `first_images` of the training split. `evaluate` takes the
        same images, so both give the same accuracy for the untrained encoder. It is
        random after --init-from too, because a run that resumes need not have those
        weights.
        """
        state = self._program.untrained(batch)
        variables = encoder_variables(state.online_params, state.online_stats)
        if "batch_stats" not in variables:
            return state
        images = first_images(self._train, STATISTICS)
        program = self._program
        stats = first_statistics(program.network, program.config, variables, images)
        return state.replace(online_stats=state.online_stats | {"encoder": stats})

    def _extract(self, state: TrainState, source: Source, indices: np.ndarray):
        variables = encoder_variables(state.online_params, state.online_stats)
        return extract_features(
            partial(self._represent, variables),
            source,
            indices,
            self._batch_size,
            sharding=batch_sharding(self._program.mesh),
        )

    @property
    def _batch_size(self) -> int:
        """The configured size, at most all images, rounded up to fit the devices."""
        images = max(map(len, self.used))
        size = min(self._config.batch_size, images)
        return whole_multiple(size, self._program.mesh.shape["data"])

    @cached_property
    def used(self) -> Indices:
        """The images in use, of both splits."""
        return Indices(
            _labelled(self._train, self._config.max_train),
            _labelled(self._test, self._config.max_test),
        )


def _labelled(source: Source, limit: int) -> Int[np.ndarray, " n"]:
    """Return at most `limit` images, always the same, that are good and labelled."""
    rows = source.usable(evaluation_indices(len(source), limit, 0))
    # Only these labels are read: all labels of a large set need a pass over its files.
    return rows[source.labels(rows) >= 0]
