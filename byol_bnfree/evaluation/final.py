"""The accuracies at the end of a run: kNN and linear, on the test split."""

from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from byol_bnfree.data.sources import Source
from byol_bnfree.evaluation.features import evaluation_indices, extract_features
from byol_bnfree.evaluation.methods.knn import knn_accuracy
from byol_bnfree.evaluation.methods.logistic import QUICK_PENALTIES, logistic_evaluation
from byol_bnfree.represent import encoder_variables, represent
from byol_bnfree.training.mesh import batch_sharding
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
    """

    def __init__(self, program: Program, train: Source, test: Source | None):
        """Prepare the evaluation. With `test` None there is nothing to evaluate on."""
        self._program, self._train, self._test = program, train, test
        self._config = program.config.evaluation
        encoder, augment = program.network.encoder, program.config.augment
        self._represent = jax.jit(partial(represent, encoder, augment=augment))

    @property
    def possible(self) -> bool:
        """True if there are test images, and labels of at least two classes."""
        return self._test is not None and (self._train.num_classes or 0) > 1

    @property
    def chance(self) -> float | None:
        """Accuracy of the best constant prediction; None without labels.

        It is the share of the largest class among the test images.
        """
        if not self.possible:
            return None
        labels = self._test.labels(self._test_indices)
        counts = np.bincount(labels[labels >= 0])
        return float(counts.max() / counts.sum()) if counts.size else None

    def features(self, state: TrainState) -> Features:
        """Return the representations of the images in use, for both splits."""
        return self._features(state, Indices(self._train_indices, self._test_indices))

    def knn(self, state: TrainState, features: Features | None = None) -> float:
        """Return the top-1 accuracy of the weighted kNN classifier, in [0, 1]."""
        features = features or self.features(state)
        return self._knn(features, Indices(self._train_indices, self._test_indices))

    def quick_knn(self, state: TrainState) -> float:
        """Return the kNN accuracy on few images, for a curve during training."""
        return self._knn(self._features(state, self.quick), self.quick)

    @cached_property
    def quick(self) -> Indices:
        """A fixed subset of both splits. Small pictures take a second on two cores."""
        train = min(QUICK_TRAIN, self._config.max_train)
        test = min(QUICK_TEST, self._config.max_test)
        return Indices(
            self._train.usable(evaluation_indices(len(self._train), train, 0)),
            self._test.usable(evaluation_indices(len(self._test), test, 0)),
        )

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
            self._train.labels(self._train_indices),
            features.test,
            self._test.labels(self._test_indices),
            num_classes=self._program.data.num_classes,
            seed=self._program.config.seed,
            strengths=tuple(len(features.train) * l2 for l2 in QUICK_PENALTIES),
        )
        return figures["top1"]

    def untrained(self, batch: dict[str, Any]) -> TrainState:
        """Return the state of step 0, with `first_statistics` in its encoder.

        They are taken from the first training images. `evaluate` takes the same images,
        so both give the same accuracy for the untrained encoder.
        """
        state = self._program.init(batch)
        variables = encoder_variables(state.online_params, state.online_stats)
        if "batch_stats" not in variables:
            return state
        images = self._train.images(np.arange(min(STATISTICS, len(self._train))))
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
        devices = self._program.mesh.shape["data"]
        images = max(len(self._train_indices), len(self._test_indices))
        return -(-min(self._config.batch_size, images) // devices) * devices

    @cached_property
    def _train_indices(self) -> Int[np.ndarray, " n"]:
        limit = self._config.max_train
        return self._train.usable(evaluation_indices(len(self._train), limit, 0))

    @cached_property
    def _test_indices(self) -> Int[np.ndarray, " m"]:
        limit = self._config.max_test
        return self._test.usable(evaluation_indices(len(self._test), limit, 0))
