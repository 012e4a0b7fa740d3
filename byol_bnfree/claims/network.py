"""Claims: the examples of a batch do not interact, and the checks would notice it."""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from byol_bnfree.assembly import encoder_name
from byol_bnfree.claims.finding import Finding, short
from byol_bnfree.claims.places import combined_in_step
from byol_bnfree.claims.settings import (
    FEW,
    LARGEST_IMAGE,
    for_analysis,
    images_together,
    kernels_of_run,
    kernels_to_trace,
    uses_batch_statistics,
)
from byol_bnfree.config import ImageSize, TrainConfig, height_and_width, image_size_of
from byol_bnfree.data.augment import normalize
from byol_bnfree.diagnostics import (
    StaticReport,
    numerical_independence,
    static_independence,
)
from byol_bnfree.diagnostics.static import stored_examples
from byol_bnfree.losses import probe_loss, regression_loss
from byol_bnfree.models.byol import BYOLNetwork, Outputs, Variables
from byol_bnfree.models.kernels import Kernels
from byol_bnfree.settings.norms import groups_of_micro_batch
from byol_bnfree.training.parts import build_parts, views_of_step_0
from byol_bnfree.training.program import views_together

_MOMENTS = r"(models/kernels|cpu/moments)\.py"
"""Files with the means of BatchNorm."""


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
    # JAX has no derivative of some loops. Groups of statistics cannot cut one image.
    derivative = "not measured"
    if not math.isnan(report.cross_derivative):
        derivative = f"{report.cross_derivative:.1e}"
    alone = "not measured" if report.alone is None else f"{report.alone:.1e}"
    return Finding(
        "outputs do not depend on other examples (in numbers)",
        f"{encoder_name(config)}, {_shape(images)}, {_words(kernels_of_run(config))}, "
        f"training mode; for encoder, projector, predictor, target and loss: the "
        f"Jacobian between examples, and {rows} after the others are replaced, "
        f"permuted, duplicated",
        f"derivative {derivative}, change {report.changed_by_others:.1e}, alone "
        f"{alone}",
        report.holds,
        expected_of="bn" if uses_batch_statistics(config) else None,
    )


def static_claim(config: TrainConfig) -> Finding:
    """Check that the traced program keeps examples apart.

    The network is traced for as many images as pass through it at once in a run, and
    views and the whole step for a few. List where the step combines examples.
    """
    traced = _traced(config, config.data.image_size or LARGEST_IMAGE)
    outputs, images, variables = traced.outputs, traced.images, traced.variables
    forward = static_independence(outputs, images, variables)
    training = static_independence(_values_in_training(outputs), images, variables)
    gradient = _gradient_report(traced)
    views = static_independence(_views(config), _as_pixels(images))
    reports = {"forward": forward, "in training": training, "views": views}
    reports |= {"backward": gradient} if gradient else {}
    places = combined_in_step(config)
    others = [kind for kind in places if kind.startswith("elsewhere")]
    wrong = [f"{k}: {r}" for k, r in reports.items() if r.verdict != "independent"]
    kept = stored_examples(traced.kept, variables, images)
    wrong += [f"kept for later batches: {_names(kept)}"] if kept else []
    back = "gradient to the images" if gradient else "no gradient to the images"
    return Finding(
        "outputs do not depend on other examples (for all inputs)",
        f"every operation of the traced program, {_shape(images)} as in the run, "
        f"{_words(kernels_to_trace(config))}: forward, {back}, the values with a "
        f"gradient, and what is kept; then views and the whole training step, of "
        f"a few images",
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
    traced = _traced(config, _size_to_run(config))
    static = static_independence(traced.outputs, traced.images, traced.variables)
    named = next((p for p in static.places if re.search(_MOMENTS, p.source)), None)
    found = numerical.cross_derivative > 0 and numerical.changed_by_others > 0
    where = short(named.source) if named else "no line"
    return Finding(
        "control: the checks detect BatchNorm",
        "the checks in numbers and by program must fail with --norm=bn",
        f"derivative {numerical.cross_derivative:.1e}; named {where}",
        found and named is not None,
    )


def _outputs(config: TrainConfig, image_size: ImageSize):
    """Return a function to all outputs of a few examples, images, and variables.

    The function takes the other two. It has the kernels of the run. The loss is that of
    one view; `combined_in_step` follows a whole step.
    """
    few, data = for_analysis(config, image_size)
    network = build_parts(few, data, kernels_of_run(config)).network
    images = jax.random.normal(jax.random.key(0), (few.batch_size, *data.image_shape))
    variables = jax.jit(network.init)(jax.random.key(1), images)
    return partial(_all_outputs, network), images, variables


class _Traced(NamedTuple):
    """A network of a run with its weights and images, as shapes."""

    outputs: Callable[[Any, Variables], dict[str, Array]]
    kept: Callable[[Variables, Any], dict[str, Any]]
    """Maps variables and images to the statistics after a training step."""
    images: jax.ShapeDtypeStruct
    variables: Variables


def _traced(config: TrainConfig, image_size: ImageSize) -> _Traced:
    """Return the network of a run, for the images that pass through it at once."""
    groups = groups_of_micro_batch(config)
    few = dataclasses.replace(config, bn_stat_groups=groups)
    few, data = for_analysis(few, image_size)
    together = views_together(config, unroll=False)
    parts = build_parts(few, data, kernels_to_trace(config), together)
    shape = (images_together(config), *data.image_shape)
    state = parts.abstract_state
    return _Traced(
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


def _values_in_training(outputs):
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


def _gradient_report(traced: _Traced) -> StaticReport | None:
    """Judge the gradients to the images; None if JAX has none, as of some loops."""
    gradient = _gradient_and_values(traced.outputs)
    try:
        return static_independence(gradient, traced.images, traced.variables)
    except Exception:  # JAX and rules of users raise many kinds
        return None


def _views(config: TrainConfig):
    draw = views_of_step_0(config)

    def views(pixels):
        """Return all views of each image, large and small."""
        batch = {"image": pixels, "position": jnp.arange(len(pixels))}
        return [normalize(view, config.augment) for view in draw(batch)]

    return views


def _as_pixels(images) -> jax.ShapeDtypeStruct:
    """A few pictures. Each view is drawn of one, so their number cannot matter."""
    return jax.ShapeDtypeStruct((FEW, *images.shape[1:]), jnp.uint8)


def _names(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 2} more" if len(paths) > 2 else ""
    return ", ".join(paths[:2]) + more


def _words(kernels: Kernels) -> str:
    return f"kernels of {kernels.words}"


def _shape(images) -> str:
    return "x".join(map(str, images.shape)) + " images"
