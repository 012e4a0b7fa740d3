"""Measures the layers of a finished run, before and after training.

    python -m experiments.layers WORKDIR

prints {"untrained": {layer: numbers}, "trained": ...} as JSON. For each layer these are
the size and variety of its outputs on view 1 of the first batch (`diagnostics.layers`),
and the norms of its kernel and of the kernel's gradient.
"""

import dataclasses
import json
import sys
from pathlib import Path

import jax

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.data.sources import open_source
from byol_bnfree.diagnostics import kernel_norms, output_measures, variety
from byol_bnfree.encoder import read_run
from byol_bnfree.models.byol import BYOLNetwork
from byol_bnfree.training.gradient import make_loss, make_views, step_key
from byol_bnfree.training.mesh import batch_sharding, make_mesh, replicated
from byol_bnfree.training.parts import build_parts
from byol_bnfree.training.restore import load_newest
from byol_bnfree.training.state import TrainState

PARTS = ("encoder", "projector", "predictor")
Layers = dict[str, dict[str, float]]


def measure(workdir: Path) -> dict[str, Layers]:
    """Measure the layers of the initial state and of the newest checkpoint."""
    config, data = read_run(workdir)
    config = dataclasses.replace(config, micro_batches=1)  # the gradient is the same
    parts = build_parts(config, data)
    mesh = make_mesh()
    batch = Batches(
        open_source(config, "train"),
        config.batch_size,
        config.seed,
        batch_sharding(mesh),
    )(0)
    key = step_key(config.seed, 0)
    views = jax.jit(lambda b: make_views(key, b, config.augment))(batch)
    abstract = jax.tree.map(
        lambda leaf: leaf.update(sharding=replicated(mesh)), parts.abstract_state
    )
    states = {
        "untrained": jax.jit(parts.init, out_shardings=replicated(mesh))(batch),
        "trained": load_newest(workdir, abstract)[0],
    }
    of_state = make_measure(parts.network)
    return {k: of_state(state, views, batch["label"]) for k, state in states.items()}


def make_measure(network: BYOLNetwork):
    """Return a function from (state, views, labels) to measures of every layer."""
    loss, order = make_loss(network), []

    @jax.jit
    def numbers(state: TrainState, views, labels):
        params, outputs, x = state.online_params, {}, views[0]
        for part in PARTS:
            variables = {"params": params[part]}
            if part in state.online_stats:
                variables["batch_stats"] = state.online_stats[part]
            x, found = output_measures(getattr(network, part), variables, x, True)
            outputs |= {f"{part}/{name}": values for name, values in found.items()}
            if part == "encoder":
                outputs["encoder/representation"] = variety(x)
        order[:] = outputs  # jit sorts its results by name, so keep the order
        gradient = jax.grad(loss, has_aux=True)(params, state, views, labels)[0]
        return outputs, kernel_norms(params), kernel_norms(gradient)

    def of_state(state: TrainState, views, labels) -> Layers:
        outputs, kernels, gradients = jax.device_get(numbers(state, views, labels))
        layers = {name: _floats(outputs[name]) for name in order}
        for name, layer in layers.items():
            if name in kernels:
                layer["kernel"] = float(kernels[name])
                layer["gradient"] = float(gradients[name])
        return layers

    return of_state


def _floats(values: dict) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def main() -> None:
    """Measure the run that the command line names."""
    print(json.dumps(measure(Path(sys.argv[1]))))


if __name__ == "__main__":
    exit_on_error(main)
