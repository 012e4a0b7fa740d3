"""Measures the layers of a finished run, before and after training.

    python -m experiments.layers WORKDIR

prints {"untrained": {layer: numbers}, "trained": ...} as JSON. For each layer these are
the size and variety of its outputs on view 1 of the first batch (`diagnostics.layers`),
and the norms of its kernel and of the kernel's gradient. The gradient is that of the
run: of its objective, and of all its views. A predictor of small views is not measured,
nor one that the loss does not use.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import tyro

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.config import TrainConfig
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.data.sources import open_source
from byol_bnfree.data.views import Batch, first_view
from byol_bnfree.diagnostics import kernel_norms, output_measures, variety
from byol_bnfree.flags import cli
from byol_bnfree.models.byol import BYOLNetwork
from byol_bnfree.represent import variables_of
from byol_bnfree.settings.objective_checks import uses_predictor
from byol_bnfree.training.gradient import make_gradient, step_key
from byol_bnfree.training.mesh import batch_sharding, make_mesh, replicated
from byol_bnfree.training.parts import build_parts
from byol_bnfree.training.restore import load_newest
from byol_bnfree.training.saved_run import read_run
from byol_bnfree.training.state import TrainState

Layers = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Arguments:
    """Measure the layers of a finished run, before and after training."""

    workdir: Annotated[Path, tyro.conf.Positional]
    """Work folder of the run."""


def measure(workdir: Path) -> dict[str, Layers]:
    """Measure the layers of the initial state and of the newest checkpoint."""
    config, data = read_run(workdir)
    parts = build_parts(config, data)
    mesh = make_mesh()
    batch = Batches(
        open_source(config, "train"),
        config.batch_size,
        config.seed,
        batch_sharding(mesh),
    )(0)
    abstract = jax.tree.map(
        lambda leaf: leaf.update(sharding=replicated(mesh)), parts.abstract_state
    )
    states = {
        "untrained": jax.jit(parts.init, out_shardings=replicated(mesh))(batch),
        "trained": load_newest(workdir, abstract)[0],
    }
    of_state = make_measure(parts.network, config)
    return {name: of_state(state, batch) for name, state in states.items()}


def make_measure(network: BYOLNetwork, config: TrainConfig):
    """Return a function from (state, batch) to measures of every layer.

    The views are those of step 0, whatever the step of the state.
    """
    # Pieces would give the same gradient, but XLA on CPUs is slow in loops.
    whole = dataclasses.replace(config.views, accumulate=False)
    config = dataclasses.replace(config, micro_batches=1, views=whole)
    gradient, order = make_gradient(network, config, 1, unroll=False), []
    parts = ["encoder", "projector", *["predictor"] * uses_predictor(config)]

    @jax.jit
    def numbers(state: TrainState, batch: Batch):
        params, outputs = state.online_params, {}
        key = jax.random.key(config.seed)
        x = first_view(step_key(key, 0), batch, config.augment)
        for part in parts:
            variables = variables_of(params[part], state.online_stats.get(part))
            x, found = output_measures(getattr(network, part), variables, x, True)
            outputs |= {f"{part}/{name}": values for name, values in found.items()}
            if part == "encoder":
                outputs["encoder/representation"] = variety(x)
        order[:] = outputs  # jit sorts its results by name, so keep the order
        first = state.replace(step=jnp.zeros_like(state.step))
        grads = gradient(first, batch, key)[0].grads
        return outputs, kernel_norms(params), kernel_norms(grads)

    def of_state(state: TrainState, batch: Batch) -> Layers:
        outputs, kernels, gradients = jax.device_get(numbers(state, batch))
        layers = {name: _floats(outputs[name]) for name in order}
        for name, layer in layers.items():
            if name in kernels:
                layer["kernel"] = float(kernels[name])
                layer["gradient"] = float(gradients[name])
        return layers

    return of_state


def _floats(values: dict) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def main(arguments: Arguments) -> None:
    """Measure the run, and print JSON."""
    print(json.dumps(measure(arguments.workdir)))


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments)))
