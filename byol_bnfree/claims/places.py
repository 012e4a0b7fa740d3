"""Where a training step combines examples, and for which purpose."""

import re
from collections import Counter

from byol_bnfree.claims.settings import LARGEST_IMAGE, for_analysis, kernels_to_trace
from byol_bnfree.config import TrainConfig
from byol_bnfree.data.views import Batch
from byol_bnfree.diagnostics import (
    step_places,
)
from byol_bnfree.diagnostics.dataflow import Place
from byol_bnfree.training.parts import abstract_batch, build_parts
from byol_bnfree.training.program import views_together
from byol_bnfree.training.state import TrainState
from byol_bnfree.training.step import Metrics, collapse_metrics, make_train_step

SOURCES = {
    r"byol_bnfree/losses\.py.*\(top_k\)": "probe accuracy",
    r"byol_bnfree/training/gradient\.py.*loss_fn\)": "mean loss",
    r"byol_bnfree/training/several_views\.py.*mean_loss\)": "mean loss",
    r"byol_bnfree/training/step\.py.*\(_metrics\)": "mean loss",
    r"byol_bnfree/objectives/": "loss of the objective",
    r"byol_bnfree/diagnostics/collapse\.py": "collapse measures",
}
"""Source lines where a step may combine examples outside the gradient, and why."""


def combined_in_step(config: TrainConfig) -> Counter:
    """Count the operations of a training step that combine examples, by purpose."""
    config, data = for_analysis(config, config.data.image_size or LARGEST_IMAGE)
    together = views_together(config, unroll=False)
    parts = build_parts(config, data, kernels_to_trace(config), together)
    step = make_train_step(parts.network, parts.optimizer, parts.schedules, config)
    batch = abstract_batch(config, data)

    def logged_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        state, metrics, outputs = step(state, batch)
        return state, metrics | collapse_metrics(outputs)

    return Counter(map(purpose, step_places(logged_step, parts.abstract_state, batch)))


def purpose(place: Place) -> str:
    """Return why a step combines examples at a place."""
    if place.kind == "mixes" and place.backward:
        return "parameter gradient"
    for pattern, name in SOURCES.items():
        if place.kind == "mixes" and re.search(pattern, place.source):
            return name
    return f"elsewhere: {place}"
