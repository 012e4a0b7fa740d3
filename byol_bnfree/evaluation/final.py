"""The two figures a run ends with: kNN and linear accuracy on the test split."""

from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from byol_bnfree.data.sources import Source
from byol_bnfree.encoder import first_statistics
from byol_bnfree.evaluation.features import evaluation_indices, extract_features
from byol_bnfree.evaluation.methods.knn import knn_accuracy
from byol_bnfree.evaluation.methods.logistic import QUICK_PENALTIES, logistic_evaluation
from byol_bnfree.represent import encoder_variables, represent
from byol_bnfree.training.mesh import batch_sharding
from byol_bnfree.training.program import Program
from byol_bnfree.training.state import TrainState

STATISTICS = 256  # images that give an untrained BatchNorm encoder its statistics
QUICK_TRAIN, QUICK_TEST = 2048, 1024  # images of the kNN that a run logs


class Features(NamedTuple):
    """Representations of both splits; float32."""

    train: Float[np.ndarray, "n d"]
    test: Float[np.ndarray, "m d"]


class Indices(NamedTuple):
    """Images used of both splits."""

    train: Int[np.ndarray, " n"]
    test: Int[np.ndarray, " m"]


class Evaluator:
    """Evaluates the online encoder of a state in inference mode.

    Whole images, no augmentation; BatchNorm reads its running statistics. Up to
    `evaluation.max_train` and `max_test` images are used, a subset fixed for all.
    """

    def __init__(self, program: Program, train: Source, test: Source | None):
        """`test` None: there is nothing to evaluate on."""
        self._program, self._train, self._test = program, train, test
        self._config = program.config.evaluation
        encoder, augment = program.network.encoder, program.config.augment
        self._represent = jax.jit(partial(represent, encoder, augment=augment))

    @property
    def possible(self) -> bool:
        """Whether there are test images, and labels of two classes at least."""
        return self._test is not None and (self._train.num_classes or 0) > 1

    @property
    def chance(self) -> float | None:
        """Accuracy of the best constant answer: the largest class's share of the test
        images. None without labels.
        """
        if not self.possible:
            return None
        labels = self._test.labels(self._test_indices)
        counts = np.bincount(labels[labels >= 0])
        return float(counts.max() / counts.sum()) if counts.size else None

    def features(self, state: TrainState) -> Features:
        """Representations of the images used from both splits."""
        return self._features(state, Indices(self._train_indices, self._test_indices))

    def knn(self, state: TrainState, features: Features | None = None) -> float:
        """Top-1 accuracy of the weighted kNN classifier, a fraction."""
        features = features or self.features(state)
        return self._knn(features, Indices(self._train_indices, self._test_indices))

    def quick_knn(self, state: TrainState) -> float:
        """The same of the images of `quick`, for a curve while a run trains."""
        return self._knn(self._features(state, self.quick), self.quick)

    @cached_property
    def quick(self) -> Indices:
        """A fixed subset of both splits: a second on two cores for small pictures."""
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
        """Top-1 accuracy of multinomial logistic regression, a fraction."""
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
        """The state of step 0; its encoder has `first_statistics`, of the first images.

        These are the images that `evaluate` takes too, so both give the same floor.
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
        """The configured size, at most all images, up to a multiple of the devices."""
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
