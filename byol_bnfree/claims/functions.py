"""The network of a run as functions of images and variables, which claims judge."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from byol_bnfree.claims.settings import (
    FEW,
    for_analysis,
    images_together,
    kernels_of_run,
    kernels_to_trace,
)
from byol_bnfree.config import ImageSize, TrainConfig
from byol_bnfree.data.augment import normalized
from byol_bnfree.losses import probe_loss, regression_loss
from byol_bnfree.models.byol import BYOLNetwork, Outputs, Variables
from byol_bnfree.settings.norms import groups_of_micro_batch
from byol_bnfree.training.parts import build_parts, views_of_step_0
from byol_bnfree.training.program import views_together


def outputs_of_few(config: TrainConfig, image_size: ImageSize):
    """Return a function to all outputs of a few examples, images, and variables.

    The function takes the other two. It has the kernels of the run. The loss is that of
    one view; `combined_in_step` follows a whole step.
    """
    few, data = for_analysis(config, image_size)
    network = build_parts(few, data, kernels_of_run(config)).network
    images = jax.random.normal(jax.random.key(0), (few.batch_size, *data.image_shape))
    variables = jax.jit(network.init)(jax.random.key(1), images)
    return partial(_all_outputs, network), images, variables


class Traced(NamedTuple):
    """A network of a run with its weights and images, as shapes."""

    outputs: Callable[[Any, Variables], dict[str, Array]]
    kept: Callable[[Variables, Any], dict[str, Any]]
    """Maps variables and images to the statistics after a training step."""
    images: jax.ShapeDtypeStruct
    variables: Variables


def traced_as_in_run(config: TrainConfig, image_size: ImageSize) -> Traced:
    """Return the network of a run, for the images that pass through it at once."""
    groups = groups_of_micro_batch(config)
    few = dataclasses.replace(config, bn_stat_groups=groups)
    few, data = for_analysis(few, image_size)
    together = views_together(config, unroll=False)
    parts = build_parts(few, data, kernels_to_trace(config), together)
    shape = (images_together(config), *data.image_shape)
    state = parts.abstract_state
    return Traced(
        partial(_all_outputs, parts.network),
        partial(_statistics, parts.network),
        jax.ShapeDtypeStruct(shape, jnp.float32),
        Variables(*(getattr(state, name) for name in Variables._fields)),
    )


def _all_outputs(network: BYOLNetwork, images, variables: Variables):
    """Return what each part gives for normalized images."""
    params, stats = variables.online_params, variables.online_stats
    online, _ = network.online(params, stats, images, True)
    params, stats = variables.target_params, variables.target_stats
    target, _ = network.target(params, stats, images, True)
    return {
        "encoder": online.representation,
        "projector": online.projection,
        "predictor": online.prediction,
        "target": target,
        "loss": _loss(online, target),
        # Any labels serve: each row has its own loss.
        "probe": probe_loss(online.logits, jnp.zeros(len(images), int)),
    }


def _statistics(network: BYOLNetwork, variables: Variables, images):
    """Return what both networks keep of normalized images for later batches."""
    params, stats = variables.online_params, variables.online_stats
    _, online = network.online(params, stats, images, True)
    params, stats = variables.target_params, variables.target_stats
    _, target = network.target(params, stats, images, True)
    return {"online": online, "target": target}


def _loss(online: Outputs, target: Array) -> Array:
    """Return BYOL's loss of each image. `loss.py` checks the other objectives."""
    if online.prediction.shape != target.shape:  # four turns
        return jnp.sum(jnp.square(online.prediction), axis=-1)
    return regression_loss(online.prediction, target)


def gradient_and_values(outputs):
    """Return a function to the gradients of losses by their images, and all values.

    The values are those of the program that is differentiated by images and weights,
    as in training: a custom derivative has a forward pass of its own.
    """

    def loss(images, variables):
        values = outputs(images, variables)
        return jnp.sum(values["loss"]), values

    def gradient(images, variables):
        derive = jax.grad(loss, argnums=(0, 1), has_aux=True, allow_int=True)
        (by_images, _), values = derive(images, variables)
        return by_images, values

    return gradient


def values_in_training(outputs):
    """Return a function to all values as a step computes them.

    A step differentiates by the online weights alone. A custom derivative may then
    compute other values than one by the images does.
    """

    def values(images, variables):
        def loss(params):
            found = outputs(images, variables._replace(online_params=params))
            return jnp.sum(found["loss"]), found

        derive = jax.grad(loss, has_aux=True, allow_int=True)
        return derive(variables.online_params)[1]

    return values


def views_of_run(config: TrainConfig):
    """Return a function from a few pictures to their views, as a run draws them."""
    draw, key = views_of_step_0(config), jax.random.key(config.seed)

    def views(pixels):
        """Return all views of each image, large and small."""
        batch = {"image": pixels, "position": jnp.arange(len(pixels))}
        return [normalized(view, config.augment) for view in draw(batch, key)]

    return views


def as_pixels(images) -> jax.ShapeDtypeStruct:
    """A few pictures. Each view is drawn of one, so their number cannot matter."""
    return jax.ShapeDtypeStruct((FEW, *images.shape[1:]), jnp.uint8)
