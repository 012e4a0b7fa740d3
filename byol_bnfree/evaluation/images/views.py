"""Augmented, labelled batches for protocols that train, and their training loop."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from byol_bnfree.config import AugmentConfig
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.data.views import first_view
from byol_bnfree.evaluation.diverged import diverged
from byol_bnfree.evaluation.kept.unfinished import Snapshot
from byol_bnfree.training.distributed import is_primary
from byol_bnfree.training.gradient import step_key
from byol_bnfree.training.progress import progress


def crops_and_flips(augment: AugmentConfig) -> AugmentConfig:
    """Keep only random crops and flips, the augmentation of evaluation.

    P1, the BYOL paper (arXiv 2006.07733), describes it in appendix C.1.
    """
    plain = {"jitter": 0.0, "grayscale": 0.0, "blur": 0.0, "solarize": 0.0}
    view = dataclasses.replace(augment.view1, **plain)
    return dataclasses.replace(augment, view1=view, function=None)


def augmented_view(
    batch: dict[str, Array], index: Array, augment: AugmentConfig, seed: int
) -> Float[Array, "b h w c"]:
    """Return view 1 of a batch, normalized. It depends on (seed, step, position)."""
    key = step_key(jax.random.key(seed), index)
    return first_view(key, batch, augment)


def train_loop(
    step: Callable[[Any, dict, Array], tuple[Any, Array]],
    state: Any,
    batches: Batches,
    total: int,
    snapshot: Snapshot,
    fit: str | None = None,
) -> Any:
    """Train to step `total` from the snapshot's step; show the loss and time left.

    The snapshot stays, because the caller still has to score the result. `fit` names a
    fit that ends when its loss is no longer finite. None lets it go on.

    Raises:
      FitDiverged: if it ended so.
    """
    start, state = snapshot.restore(state)
    stream: Iterator[dict] = batches.iterate(start, total)
    before = None
    with progress(total, start, primary=is_primary()) as shown:
        for index, batch in enumerate(stream, start):
            state, loss = step(state, batch, jnp.asarray(index))
            if before is not None:  # read one step late, so the device is never idle
                shown.update(index, {"loss": float(before)})
                if fit is not None and not math.isfinite(float(before)):
                    raise diverged(fit)
            before = loss
            snapshot.offer(index + 1, state)
        if before is not None:
            shown.update(total, {"loss": float(before)})
    return state
