"""Diagnostics: is the representation collapsing, and do examples affect each other?"""

from byol_bnfree.diagnostics.collapse import (
    centered_rank,
    collapse_measures,
    effective_rank,
)
from byol_bnfree.diagnostics.derivatives import gradient_independence
from byol_bnfree.diagnostics.independence import (
    IndependenceReport,
    batch_independence,
)
from byol_bnfree.diagnostics.layers import (
    kernel_norms,
    output_measures,
    update_ratios,
    variety,
)
from byol_bnfree.diagnostics.numerical import (
    NumericalReport,
    numerical_independence,
)
from byol_bnfree.diagnostics.static import (
    StaticReport,
    carried_over,
    static_independence,
    step_places,
)
from byol_bnfree.diagnostics.verdict import (
    CollapseVerdict,
    CollapseWatch,
    judge,
    update_watch,
)

__all__ = [
    "CollapseVerdict",
    "CollapseWatch",
    "IndependenceReport",
    "NumericalReport",
    "StaticReport",
    "batch_independence",
    "carried_over",
    "centered_rank",
    "collapse_measures",
    "effective_rank",
    "gradient_independence",
    "judge",
    "kernel_norms",
    "numerical_independence",
    "output_measures",
    "static_independence",
    "step_places",
    "update_ratios",
    "update_watch",
    "variety",
]
