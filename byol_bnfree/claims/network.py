"""Claims: the examples of a batch do not interact, and the checks would notice it."""

import dataclasses
import math
import re
from collections.abc import Sequence
from functools import partial

from byol_bnfree.assembly import encoder_name
from byol_bnfree.claims.finding import Finding, short
from byol_bnfree.claims.functions import (
    Traced,
    as_pixels,
    gradient_and_values,
    outputs_of_few,
    traced_as_in_run,
    values_in_training,
    views_of_run,
)
from byol_bnfree.claims.places import combined_in_step
from byol_bnfree.claims.settings import (
    LARGEST_IMAGE,
    kernels_of_run,
    kernels_to_trace,
    uses_batch_statistics,
)
from byol_bnfree.config import ImageSize, TrainConfig, height_and_width, image_size_of
from byol_bnfree.diagnostics import (
    StaticReport,
    numerical_independence,
    static_independence,
)
from byol_bnfree.diagnostics.static import stored_examples
from byol_bnfree.errors import first_line
from byol_bnfree.models.kernels import Kernels

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
    outputs, images, variables = outputs_of_few(config, _size_to_run(config))
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
    traced = traced_as_in_run(config, config.data.image_size or LARGEST_IMAGE)
    outputs, images, variables = traced.outputs, traced.images, traced.variables
    forward = static_independence(outputs, images, variables)
    training = static_independence(values_in_training(outputs), images, variables)
    gradient = _gradient_report(traced)
    views = static_independence(views_of_run(config), as_pixels(images))
    reports = {"forward": forward, "in training": training, "views": views}
    back = "gradient to the images"
    if isinstance(gradient, StaticReport):
        reports["backward"] = gradient
    else:
        back = f"no gradient to the images ({gradient})"
    places = combined_in_step(config)
    others = [kind for kind in places if kind.startswith("elsewhere")]
    wrong = [f"{k}: {r}" for k, r in reports.items() if r.verdict != "independent"]
    kept = stored_examples(traced.kept, variables, images)
    wrong += [f"kept for later batches: {_names(kept)}"] if kept else []
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
    outputs, images, variables = outputs_of_few(config, _size_to_run(config))
    numerical = numerical_independence(partial(outputs, variables=variables), images)
    traced = traced_as_in_run(config, _size_to_run(config))
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


def _gradient_report(traced: Traced) -> StaticReport | str:
    """Judge the gradients to the images, or say why JAX has none, as of some loops."""
    gradient = gradient_and_values(traced.outputs)
    try:
        return static_independence(gradient, traced.images, traced.variables)
    except Exception as error:  # JAX and rules of users raise many kinds
        return short(first_line(error))


def _names(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 2} more" if len(paths) > 2 else ""
    return ", ".join(paths[:2]) + more


def _words(kernels: Kernels) -> str:
    return f"kernels of {kernels.words}"


def _shape(images) -> str:
    return "x".join(map(str, images.shape)) + " images"
