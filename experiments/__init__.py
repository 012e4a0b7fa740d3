"""Experiments: one folder, one question, with its command and results.

python -m experiments norm_comparison --arms bn gn_ws --seeds 0 1 2
python -m experiments report
"""

GRIDS = (
    "norm_comparison",
    "norm_placement",
    "initialization",
    "batch_size",
    "target_network",
    "contrastive",
    "simclr_norms",
    "objectives",
    "augmentation",
    "heads",
    "rates",
    "predictor",
    "loss_normalization",
    "views",
    "recipe_search",
)
"""Experiments that are grids of training runs, each a folder."""
