"""Evaluation of an encoder with the protocols of the BYOL papers.

`run.evaluate` evaluates a work folder and stores the results. The functions here do the
same for any encoder. They fit on the training split and report on the test split.
"""

from typing import TYPE_CHECKING

from byol_bnfree.lazy import importer

if TYPE_CHECKING:  # for editors and type checkers; keep it equal to `_HOME`
    from byol_bnfree.evaluation.dense.evaluation import dense_evaluation
    from byol_bnfree.evaluation.dense.opening import dense_views
    from byol_bnfree.evaluation.dense.settings import (
        DepthSettings,
        DetectionSettings,
        SegmentationSettings,
    )
    from byol_bnfree.evaluation.dense.tasks import TASKS
    from byol_bnfree.evaluation.features import (
        encoder_features,
        evaluation_indices,
        extract_features,
    )
    from byol_bnfree.evaluation.methods.knn import knn_accuracy, knn_predict
    from byol_bnfree.evaluation.methods.linear import linear_evaluation
    from byol_bnfree.evaluation.methods.logistic import (
        fit_logistic,
        logistic_evaluation,
    )
    from byol_bnfree.evaluation.methods.metrics import (
        eleven_point_map,
        mean_per_class,
        top_k_accuracy,
    )
    from byol_bnfree.evaluation.methods.neighbours import nearest
    from byol_bnfree.evaluation.methods.robustness import corrupted_accuracy
    from byol_bnfree.evaluation.methods.tuning import (
        finetune_evaluation,
        semi_supervised_evaluation,
        supervised_evaluation,
    )

_HOME = {
    "encoder_features": "features",
    "evaluation_indices": "features",
    "extract_features": "features",
    "knn_accuracy": "methods.knn",
    "knn_predict": "methods.knn",
    "linear_evaluation": "methods.linear",
    "fit_logistic": "methods.logistic",
    "logistic_evaluation": "methods.logistic",
    "eleven_point_map": "methods.metrics",
    "mean_per_class": "methods.metrics",
    "top_k_accuracy": "methods.metrics",
    "nearest": "methods.neighbours",
    "corrupted_accuracy": "methods.robustness",
    "finetune_evaluation": "methods.tuning",
    "semi_supervised_evaluation": "methods.tuning",
    "supervised_evaluation": "methods.tuning",
    "dense_evaluation": "dense.evaluation",
    "dense_views": "dense.opening",
    "TASKS": "dense.tasks",
    "SegmentationSettings": "dense.settings",
    "DepthSettings": "dense.settings",
    "DetectionSettings": "dense.settings",
}
"""Maps a public name to its module, which is imported on first use.

`--help` is quick.
"""
__getattr__ = importer(__name__, _HOME)

__all__ = [
    "evaluation_indices",
    "encoder_features",
    "extract_features",
    "linear_evaluation",
    "semi_supervised_evaluation",
    "finetune_evaluation",
    "supervised_evaluation",
    "knn_accuracy",
    "knn_predict",
    "fit_logistic",
    "logistic_evaluation",
    "nearest",
    "corrupted_accuracy",
    "top_k_accuracy",
    "mean_per_class",
    "eleven_point_map",
    "dense_evaluation",
    "dense_views",
    "TASKS",
    "SegmentationSettings",
    "DepthSettings",
    "DetectionSettings",
]
