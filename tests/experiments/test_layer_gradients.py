"""Measures of the layers of an experiment's run."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import tiny
from byol_bnfree.config import TrainConfig, ViewsConfig
from byol_bnfree.diagnostics import kernel_norms
from byol_bnfree.saved_config import config_from_dict
from byol_bnfree.settings.objective_checks import uses_predictor
from byol_bnfree.training.gradient import make_gradient
from byol_bnfree.training.state import create_state
from experiments.layers import make_measure
from experiments.results import read_results

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
THREE = ViewsConfig(count=3, accumulate=True)
RUNS = {
    "infonce": tiny.config(objective="infonce"),
    "several views": tiny.config(views=THREE, norm="gn_ws", micro_batches=2),
}


class Colours(nn.Module):
    """An encoder that compiles fast."""

    @nn.compact
    def __call__(self, images, train):
        return nn.Dense(8, name="fc")(images.mean((1, 2)))


@pytest.mark.parametrize(
    "name", ["infonce", pytest.param("several views", marks=pytest.mark.slow)]
)
def test_the_gradient_of_a_layer_is_that_of_the_run(name):
    config, batch = RUNS[name], jax.tree.map(jnp.asarray, tiny.batch())
    network = dataclasses.replace(tiny.network(config), encoder=Colours())
    variables = jax.jit(network.init)(jax.random.key(1), jnp.zeros((2, 8, 8, 3)))
    state = create_state(variables, optax.identity())
    of_run = jax.jit(make_gradient(network, config, 1, unroll=False))
    wanted = kernel_norms(of_run(state, batch, jax.random.key(config.seed))[0].grads)
    later = state.replace(step=state.step + 7)  # training draws other views here
    layers = make_measure(network, config)(later, batch)
    found = {name: x["gradient"] for name, x in layers.items() if "gradient" in x}
    assert {"encoder/fc", "projector/fc1"} < set(found)
    assert ("predictor/fc1" in layers) == (config.objective == "byol")
    for layer, norm in found.items():
        np.testing.assert_allclose(norm, wanted[layer], rtol=1e-3, err_msg=layer)


@pytest.mark.parametrize("name", ["contrastive", "objectives", "simclr_norms"])
def test_no_row_has_a_gradient_of_a_predictor_that_its_loss_does_not_use(name):
    """Early versions measured that of BYOL's loss for every run."""
    rows = read_results(EXPERIMENTS / name / "results.jsonl")
    for row in rows:
        if uses_predictor(config_from_dict(TrainConfig, row["config"])):
            continue
        for state in (row["layers"] or {}).values():
            found = {k: v for k, v in state.items() if k.startswith("predictor/")}
            assert not any(v.get("gradient") for v in found.values()), row["arm"]
