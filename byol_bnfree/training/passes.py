"""Passes of a network over the views of a batch, and their results."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.pixels import checked_images
from byol_bnfree.errors import InputError, flag
from byol_bnfree.losses import probe_loss
from byol_bnfree.models.byol import Outputs


class Averaged(NamedTuple):
    """Means over a (micro-)batch. Those of several micro-batches are averaged."""

    grads: Any
    """The gradient of the mean loss, by the online network's parameters."""
    online_stats: Any
    target_stats: Any
    """Running statistics of the networks after the batch."""


class Forward(NamedTuple):
    """Arrays with a row for each example of a (micro-)batch."""

    loss: Float[Array, " b"]
    probe_loss: Float[Array, " b"]
    representation: Float[Array, "b d"]
    projection1: Float[Array, "b k"]
    projection2: Float[Array, "b k"]
    logits: Float[Array, "b c"] | None
    labels: Int[Array, " b"]
    kept: Any = None
    """Arrays that the objective keeps of each example, or None."""


Gradient = Callable[..., tuple[Averaged, Forward]]
"""Maps (state, batch, key) to what a step needs of a batch."""


def check_arrays(batch: dict[str, Any]) -> None:
    """Raise `InputError` if a batch lacks what a step reads, or has other shapes."""
    needed = {
        "label": "int32 [b], the class of each image from 0, or -1",
        "position": "int32 [b], the place of each image in the global batch",
    }
    if "crops" not in batch:
        needed = {"image": "uint8 [b h w c]"} | needed
    for key, meaning in needed.items():
        if key not in batch:
            raise InputError(f"the batch has no {key!r}; add it: {meaning}.")
    pictures = _pictures(batch)
    for key in ("label", "position"):
        if not hasattr(batch[key], "dtype"):
            raise InputError(
                f"the batch's {key!r} is a {type(batch[key]).__name__}; give an array: "
                f"{needed[key]}."
            )
        shape, kind = batch[key].shape, batch[key].dtype
        if shape != (pictures,) or not jnp.issubdtype(kind, jnp.integer):
            raise InputError(
                f"the batch has {pictures} images, but its {key!r} is {kind} {shape}; "
                f"give {needed[key]}."
            )


def _pictures(batch: dict[str, Any]) -> int:
    """Return how many images a batch has.

    Raises:
      InputError: unless it is one or more, in arrays of the right shape.
    """
    if "crops" not in batch:
        if not hasattr(batch["image"], "dtype"):
            raise InputError(
                f"the batch's 'image' is a {type(batch['image']).__name__}; give an "
                f"array [b h w c]."
            )
        return len(checked_images(batch["image"]))
    for key in batch.keys() & {"crops", "small_crops"}:
        shape = jnp.shape(batch[key])
        if len(shape) != 5 or 0 in shape:
            raise InputError(
                f"the batch's {key!r} have shape {shape}; give crops of at least one "
                f"image: uint8 [b n h w c]."
            )
    return len(batch["crops"])


def most_together(config: TrainConfig) -> int:
    """Return how many views of an image may pass side by side: all large ones, or one.

    With `views.accumulate`, memory must not grow with their number. Small views cannot
    stand in one array with large ones.
    """
    views = config.views
    return 1 if views.accumulate or views.small else views.count


def check_together(views: int, config: TrainConfig) -> None:
    """Raise `InputError` if so many views never pass side by side.

    BatchNorm would take its statistics over other views than those of a pass.
    """
    most = most_together(config)
    if views in (1, most):
        return
    if most > 1:
        raise InputError(f"views is {views}; give 1 or {most}, all views.")
    cause = "small views" if config.views.small else flag("views.accumulate")
    raise InputError(
        f"views is {views}, but with {cause} no views pass side by side; give 1."
    )


def of_views(
    network: Callable[..., Any],
    together: int,
    params: Any,
    stats: Any,
    views: Sequence[Array],
) -> tuple[tuple[Any, ...], Any]:
    """Return the outputs of each view, and the statistics after them.

    `together` is 1 or the number of views. In the second case all views pass side by
    side, those of an image on the same device. Only BatchNorm distinguishes them then.
    """
    if together == 1:
        outputs = []
        for view in views:
            output, stats = network(params, stats, view, True)
            outputs.append(output)
        return tuple(outputs), stats
    count = len(views)
    joined = rearrange(jnp.stack(views, axis=1), "b v ... -> (b v) ...")
    outputs, stats = network(params, stats, joined, True)
    apart = jax.tree.map(
        lambda x: rearrange(x, "(b v) ... -> v b ...", v=count), outputs
    )
    return tuple(jax.tree.map(lambda x, i=i: x[i], apart) for i in range(count)), stats


def probe_of(
    outputs: Outputs, loss: Float[Array, " b"], labels: Int[Array, " b"]
) -> Float[Array, " b"]:
    """Return the probe's loss of each image: zeros like `loss` without a probe."""
    if outputs.logits is None:
        return jnp.zeros_like(loss)
    return probe_loss(outputs.logits, labels)


def forward_of(
    outputs: Sequence[Outputs],
    loss: Float[Array, " b"],
    probe: Float[Array, " b"],
    labels: Int[Array, " b"],
    kept: Any = None,
) -> Forward:
    """Collect the results. Representation and probe are those of the first view."""
    return Forward(
        loss,
        probe,
        representation=outputs[0].representation,
        projection1=outputs[0].projection,
        projection2=outputs[1].projection,
        logits=outputs[0].logits,
        labels=labels,
        kept=kept,
    )
