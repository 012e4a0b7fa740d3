"""Is the representation collapsing? Measures of a batch, and a verdict over a run."""

from byol_bnfree.diagnostics.collapse import (
    centered_rank,
    collapse_measures,
    effective_rank,
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
    "centered_rank",
    "collapse_measures",
    "effective_rank",
    "judge",
    "update_watch",
]
