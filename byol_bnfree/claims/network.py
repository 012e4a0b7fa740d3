"""Claims 1 to 3: examples do not interact in the network, and the checks can tell."""

import dataclasses
import itertools
import re
from collections import Counter
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from byol_bnfree.assembly import prediction_width
from byol_bnfree.claims.finding import Finding
from byol_bnfree.claims.settings import (
    for_analysis,
    uses_batch_statistics,
)
from byol_bnfree.config import (
    ImageSize,
    TrainConfig,
    height_and_width,
    image_size_of,
)
from byol_bnfree.diagnostics import (
    carried_over,
    gradient_independence,
    numerical_independence,
    static_independence,
    step_places,
)
from byol_bnfree.diagnostics.dataflow import Place
from byol_bnfree.losses import probe_loss, regression_loss
from byol_bnfree.models.byol import Outputs
from byol_bnfree.objectives import Passed, make_objective
from byol_bnfree.settings.objective_checks import couples_in_loss
from byol_bnfree.training.gradient import make_views
from byol_bnfree.training.parts import build_parts
from byol_bnfree.training.step import make_train_step

LARGEST_IMAGE = 32  # pixels; the numerical check runs the network
SOURCES = {  # source lines where a step may combine examples, outside the gradient
    r"byol_bnfree/losses\.py.*\(top_k\)": "probe accuracy",
    r"byol_bnfree/training/gradient\.py.*loss_fn\)": "mean loss",
    r"byol_bnfree/training/step\.py.*\(_metrics\)": "mean loss",
    r"byol_bnfree/objectives/": "loss of the objective",
    r"byol_bnfree/diagnostics/collapse\.py": "collapse measures",
}


def _at_most(size: ImageSize | None) -> ImageSize:
    """The size of the input, each side at most `LARGEST_IMAGE`."""
    sides = height_and_width(size or LARGEST_IMAGE)
    return image_size_of(*(min(side, LARGEST_IMAGE) for side in sides))


def numerical_claim(config: TrainConfig) -> Finding:
    """Check that derivatives and changes between examples are exactly zero."""
    size = _at_most(config.data.image_size)
    outputs, images = _outputs(config, size)
    report = numerical_independence(outputs, images)
    return Finding(
        "outputs do not depend on other examples (in numbers)",
        f"{config.model.name}, {_shape(images)}, training mode; for encoder, "
        f"projector, predictor, target and loss: the Jacobian between examples, and "
        f"each row after the others are replaced, permuted, duplicated",
        f"derivative {report.cross_derivative:.1e}, change "
        f"{report.changed_by_others:.1e}, alone {report.alone:.1e}",
        report.holds,
        expected_of="bn" if uses_batch_statistics(config) else None,
    )


def static_claim(config: TrainConfig) -> Finding:
    """Check that the traced program keeps examples apart.

    List where the step does not.
    """
    image_size = config.data.image_size or LARGEST_IMAGE
    outputs, images = _outputs(config, image_size, drawn=False)
    forward = static_independence(outputs, images)
    gradient = static_independence(_image_gradient(outputs), images)
    views = static_independence(_views(config), _as_pixels(images))
    reports = {"forward": forward, "backward": gradient, "views": views}
    places = _step_places(config)
    others = [kind for kind in places if kind.startswith("elsewhere")]
    wrong = [f"{k}: {r}" for k, r in reports.items() if r.verdict != "independent"]
    return Finding(
        "outputs do not depend on other examples (for all inputs)",
        f"every operation of the traced program, {_shape(images)}: views, forward, "
        f"gradient to the images; then the whole training step",
        _short("; ".join(wrong or others[:2])) or "no mixing operation",
        not wrong and not others,
        note=_short(
            f"A training step of {config.norm} combines examples in: "
            + ", ".join(f"{kind} ({count})" for kind, count in places.items())
        ),
        expected_of="bn" if uses_batch_statistics(config) else None,
    )


def loss_claim(config: TrainConfig) -> Finding:
    """Check whether the objective needs other images: of this batch, or of earlier
    ones.

    The check begins at the networks' outputs, so the norms do not matter.
    """
    config, data = for_analysis(config, config.data.image_size or LARGEST_IMAGE)
    objective = make_objective(config)
    state = build_parts(config, data).abstract_state
    memory = {k: jnp.zeros(x.shape, x.dtype) for k, x in state.memory.items()}
    passed = passed_of(config, memory)
    examples = jax.ShapeDtypeStruct((config.batch_size, passed.width), jnp.float32)

    def loss(rows):
        return objective.loss(passed.of(rows))

    reports = [static_independence(loss, examples)]
    reports += [gradient_independence(loss, examples)]
    places = [str(place) for report in reports for place in report.places[:2]]
    kept = None
    if objective.remember:
        drawn = jnp.zeros(examples.shape)
        kept = carried_over(
            objective.remember, memory, objective.keep(passed.of(drawn))
        )
    if kept:
        places.append(f"kept for later batches: {kept}")
    needs = "the other images of the batch" if couples_in_loss(config) else None
    needs = "images of earlier batches" if kept else needs
    return Finding(
        "the loss of an example does not depend on others",
        f"every operation of the loss of {config.objective} and of its gradient, from "
        f"the networks' outputs on, {config.batch_size} images",
        _short("; ".join(dict.fromkeys(places))) or "no mixing operation",
        not places,
        note=f"The loss of {config.objective} needs {needs}." if needs else "",
        expected_of=config.objective if needs else None,
    )


class PassedRows(NamedTuple):
    """The layout of all inputs of a loss: one row for each image."""

    widths: tuple[int, ...]
    memory: dict[str, Array]

    @property
    def width(self) -> int:
        """Length of a row: projections, predictions and targets of both views."""
        return 2 * sum(self.widths)

    def of(self, rows: Float[Array, "b w"]) -> Passed:
        """Split rows into the inputs of a loss. All views are turned by 0 quarters."""
        ends = list(itertools.accumulate(w for w in self.widths for _ in range(2)))
        pieces = jnp.split(rows, ends[:-1], axis=1)
        answers = jnp.zeros((len(rows), 2), jnp.int32)
        return Passed(
            *(tuple(pieces[i : i + 2]) for i in (0, 2, 4)), self.memory, answers
        )


def passed_of(config: TrainConfig, memory: dict[str, Array]) -> PassedRows:
    """Return the row layout for a configuration's heads."""
    projection = config.model.projector.out
    widths = (projection, prediction_width(config), projection)
    return PassedRows(widths, memory)


def control_claim(config: TrainConfig) -> Finding:
    """Check that both checks fail with BatchNorm; otherwise they prove nothing."""
    config = dataclasses.replace(
        config,
        norm="bn",
        encoder_norm=None,
        projector_norm=None,
        predictor_norm=None,
        init="standard",
        micro_batches=1,
    )
    size = _at_most(config.data.image_size)
    outputs, images = _outputs(config, size)
    numerical = numerical_independence(outputs, images)
    static = static_independence(outputs, images)
    named = next((p for p in static.places if "models/kernels.py" in p.source), None)
    found = numerical.cross_derivative > 0 and numerical.changed_by_others > 0
    where = _short(named.source) if named else "no line"
    return Finding(
        "control: the checks detect BatchNorm",
        "the two checks above on the same network with --norm=bn must fail",
        f"derivative {numerical.cross_derivative:.1e}; named {where}",
        found and named is not None,
    )


def _outputs(config: TrainConfig, image_size: ImageSize, drawn: bool = True):
    """Return a function from images to all outputs of each example, and some images.

    With `drawn` the parameters are random. Otherwise they are zeros, which suffices to
    trace the program. The loss is that of one view; `_step_places` follows a whole
    step.
    """
    config, data = for_analysis(config, image_size)
    network = build_parts(config, data).network
    shape = (config.batch_size, *data.image_shape)
    images = jax.random.normal(jax.random.key(0), shape)
    key = jax.random.key(1)
    if drawn:
        variables = jax.jit(network.init)(key, images)
    else:
        shapes = jax.eval_shape(network.init, key, images)
        variables = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def outputs(images):
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
            "probe": probe_loss(online.logits, jnp.zeros(len(images), int)),
        }

    return outputs, images


def _loss(online: Outputs, target: Array) -> Array:
    """Return BYOL's loss of each image. `loss_claim` checks the other objectives."""
    if online.prediction.shape != target.shape:  # four turns
        return jnp.sum(jnp.square(online.prediction), axis=-1)
    return regression_loss(online.prediction, target)


def _image_gradient(outputs):
    """Return the gradient of each example's loss with respect to its image."""
    return jax.grad(lambda images: jnp.sum(outputs(images)["loss"]))


def _views(config: TrainConfig):
    def views(pixels):
        positions = jnp.arange(len(pixels))
        batch = {"image": pixels, "position": positions}
        return make_views(jax.random.key(0), batch, config.augment)

    return views


def _as_pixels(images) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(images.shape, jnp.uint8)


def _step_places(config: TrainConfig) -> Counter:
    """Count the operations of a training step that combine examples, by purpose."""
    config, data = for_analysis(config, config.data.image_size or LARGEST_IMAGE)
    parts = build_parts(config, data, views=2)
    step = make_train_step(
        parts.network, parts.optimizer, parts.schedules, config, total_steps=1
    )
    batch = {
        "image": jax.ShapeDtypeStruct(
            (config.batch_size, *data.image_shape), jnp.uint8
        ),
        "label": jax.ShapeDtypeStruct((config.batch_size,), jnp.int32),
        "position": jax.ShapeDtypeStruct((config.batch_size,), jnp.int32),
    }
    return Counter(map(purpose, step_places(step, parts.abstract_state, batch)))


def purpose(place: Place) -> str:
    """Return why a step combines examples at a place."""
    if place.kind == "mixes" and place.backward:
        return "parameter gradient"
    for pattern, name in SOURCES.items():
        if place.kind == "mixes" and re.search(pattern, place.source):
            return name
    return f"elsewhere: {place}"


def _short(text: str) -> str:
    """Shorten paths to the part from the package on."""
    return re.sub(r"\S*/(byol_bnfree/)", r"\1", text)


def _shape(images) -> str:
    return "x".join(map(str, images.shape)) + " images"
