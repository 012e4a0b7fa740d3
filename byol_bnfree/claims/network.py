"""Claims: the examples of a batch do not interact, and the checks would notice it."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array

from byol_bnfree.assembly import encoder_name
from byol_bnfree.claims.finding import Finding, short
from byol_bnfree.claims.places import combined_in_step
from byol_bnfree.claims.settings import (
    LARGEST_IMAGE,
    for_analysis,
    uses_batch_statistics,
)
from byol_bnfree.config import ImageSize, TrainConfig, height_and_width, image_size_of
from byol_bnfree.data.augment import normalize
from byol_bnfree.diagnostics import (
    numerical_independence,
    static_independence,
)
from byol_bnfree.losses import probe_loss, regression_loss
from byol_bnfree.models.byol import Outputs
from byol_bnfree.training.parts import build_parts, views_of_step_0


def _size_to_run(config: TrainConfig) -> ImageSize:
    """The size of the input, each side at most `LARGEST_IMAGE`.

    A user's own encoder may take one size only, so it gets its own.
    """
    size = config.data.image_size or LARGEST_IMAGE
    if config.encoder is not None:
        return size
    sides = height_and_width(size)
    return image_size_of(*(min(side, LARGEST_IMAGE) for side in sides))


def numerical_claim(config: TrainConfig) -> Finding:
    """Check that derivatives and changes between examples are exactly zero."""
    outputs, images, variables = _outputs(config, _size_to_run(config))
    report = numerical_independence(partial(outputs, variables=variables), images)
    rows = (
        f"{len(images) - report.unexamined} rows" if report.unexamined else "each row"
    )
    # Groups of statistics cannot cut a batch of one.
    alone = "not measured" if report.alone is None else f"{report.alone:.1e}"
    return Finding(
        "outputs do not depend on other examples (in numbers)",
        f"{encoder_name(config)}, {_shape(images)}, training mode; for encoder, "
        f"projector, predictor, target and loss: the Jacobian between examples, and "
        f"{rows} after the others are replaced, permuted, duplicated",
        f"derivative {report.cross_derivative:.1e}, change "
        f"{report.changed_by_others:.1e}, alone {alone}",
        report.holds,
        expected_of="bn" if uses_batch_statistics(config) else None,
    )


def static_claim(config: TrainConfig) -> Finding:
    """Check that the traced program keeps examples apart.

    List where the step does not.
    """
    image_size = config.data.image_size or LARGEST_IMAGE
    outputs, images, variables = _outputs(config, image_size, drawn=False)
    forward = static_independence(outputs, images, variables)
    gradient = static_independence(_gradient_and_values(outputs), images, variables)
    views = static_independence(_views(config), _as_pixels(images))
    reports = {"forward": forward, "backward": gradient, "views": views}
    places = combined_in_step(config)
    others = [kind for kind in places if kind.startswith("elsewhere")]
    wrong = [f"{k}: {r}" for k, r in reports.items() if r.verdict != "independent"]
    return Finding(
        "outputs do not depend on other examples (for all inputs)",
        f"every operation of the traced program, {_shape(images)}: views, forward, "
        f"gradient to the images and the values with it; then the whole training step",
        short("; ".join(wrong or others[:2])) or "no mixing operation",
        not wrong and not others,
        note=short(
            f"A training step of {config.norm} combines examples in: "
            + ", ".join(f"{kind} ({count})" for kind, count in places.items())
        ),
        expected_of="bn" if uses_batch_statistics(config) else None,
    )


def control_claim(config: TrainConfig) -> Finding:
    """Check that both checks fail with BatchNorm; otherwise they prove nothing."""
    # bn refuses micro-batches and single images, only norm none is initialized by
    # data, and only gn_ws has unit kernels.
    config = dataclasses.replace(
        config,
        norm="bn",
        encoder_norm=None,
        projector_norm=None,
        predictor_norm=None,
        init="standard",
        micro_batches=1,
        batch_size=max(config.batch_size, 2 * config.bn_stat_groups),
        model=dataclasses.replace(config.model, unit_kernels=False),
    )
    outputs, images, variables = _outputs(config, _size_to_run(config))
    numerical = numerical_independence(partial(outputs, variables=variables), images)
    static = static_independence(outputs, images, variables)
    named = next((p for p in static.places if "models/kernels.py" in p.source), None)
    found = numerical.cross_derivative > 0 and numerical.changed_by_others > 0
    where = short(named.source) if named else "no line"
    return Finding(
        "control: the checks detect BatchNorm",
        "the checks in numbers and by program must fail with --norm=bn",
        f"derivative {numerical.cross_derivative:.1e}; named {where}",
        found and named is not None,
    )


def _outputs(config: TrainConfig, image_size: ImageSize, drawn: bool = True):
    """Return a function to all outputs of each example, images, and variables.

    The function takes the other two. With `drawn` the variables are random. Otherwise
    they are shapes, which suffice to trace the program. The loss is that of one view;
    `combined_in_step` follows a whole step.
    """
    config, data = for_analysis(config, image_size)
    network = build_parts(config, data).network
    shape = (config.batch_size, *data.image_shape)
    images = jax.random.normal(jax.random.key(0), shape)
    key = jax.random.key(1)
    if drawn:
        drawn_or_shapes = jax.jit(network.init)(key, images)
    else:
        drawn_or_shapes = jax.eval_shape(network.init, key, images)

    def outputs(images, variables):
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

    return outputs, images, drawn_or_shapes


def _loss(online: Outputs, target: Array) -> Array:
    """Return BYOL's loss of each image. `loss.py` checks the other objectives."""
    if online.prediction.shape != target.shape:  # four turns
        return jnp.sum(jnp.square(online.prediction), axis=-1)
    return regression_loss(online.prediction, target)


def _gradient_and_values(outputs):
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


def _views(config: TrainConfig):
    draw = views_of_step_0(config)

    def views(pixels):
        """Return all views of each image, large and small."""
        batch = {"image": pixels, "position": jnp.arange(len(pixels))}
        return [normalize(view, config.augment) for view in draw(batch)]

    return views


def _as_pixels(images) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(images.shape, jnp.uint8)


def _shape(images) -> str:
    return "x".join(map(str, images.shape)) + " images"
