"""What an encoder is worth, by the protocols of the papers.

`run.evaluate` measures a work folder and keeps the figures; the functions here do the
same for any encoder: they fit on the training split and report on the test split.
"""

from byol_bnfree.evaluation.features import (
    encoder_features,
    evaluation_indices,
    extract_features,
)
from byol_bnfree.evaluation.knn import knn_accuracy, knn_predict
from byol_bnfree.evaluation.linear import linear_evaluation
from byol_bnfree.evaluation.logistic import fit_logistic, logistic_evaluation
from byol_bnfree.evaluation.metrics import (
    eleven_point_map,
    mean_per_class,
    top_k_accuracy,
)
from byol_bnfree.evaluation.neighbours import nearest
from byol_bnfree.evaluation.robustness import corrupted_accuracy
from byol_bnfree.evaluation.tuning import (
    finetune_evaluation,
    semi_supervised_evaluation,
    supervised_evaluation,
)

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
]
