"""What a frozen encoder is worth: its features, kNN, and a linear classifier.

All three fit on features of the training split and report on those of the test split.
"""

from byol_bnfree.evaluation.features import evaluation_indices, extract_features
from byol_bnfree.evaluation.knn import knn_accuracy, knn_predict
from byol_bnfree.evaluation.logistic import fit_logistic, logistic_evaluation
from byol_bnfree.evaluation.metrics import top_k_accuracy

__all__ = [
    "evaluation_indices",
    "extract_features",
    "knn_accuracy",
    "knn_predict",
    "fit_logistic",
    "logistic_evaluation",
    "top_k_accuracy",
]
