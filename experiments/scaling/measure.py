"""The needs of one step of ResNet-50, read from compiled programs; prints JSON.

    python -m experiments.scaling.measure --norm=gn_ws

The step of configs/imagenet_resnet50.py at 224 pixels is compiled for one CPU device
with 2 and with 4 images. Operations and memory are a constant and an amount for each
image. Nothing is run.
"""

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import jax
from jax.sharding import AbstractMesh

from byol_bnfree import TrainConfig, load_config
from byol_bnfree.command_line import exit_on_error
from byol_bnfree.config import Norm
from byol_bnfree.flags import cli
from byol_bnfree.training.mesh import state_shardings
from byol_bnfree.training.program import build_program
from experiments.paper_scale import IMAGENET, streamed_batch
from experiments.scaling.estimate import DEVICES

CONFIG = "configs/imagenet_resnet50.py:1000"
SIZES = 2, 4  # images; the difference is the cost of two


@dataclass(frozen=True)
class Arguments:
    """Compile the ImageNet step with one norm."""

    norm: Norm = "gn_ws"
    """Normalization of every part."""


def main(arguments: Arguments) -> dict[str, Any]:
    """Operations, bytes and memory: a constant, and what each image adds."""
    config = replace(load_config(CONFIG), norm=arguments.norm)
    config = replace(config, run=replace(config.run, convolution="xla"))
    small, large = (cost(replace(config, batch_size=size)) for size in SIZES)
    slopes = {k: (large[k] - small[k]) / (SIZES[1] - SIZES[0]) for k in small}
    per_image = {f"{k}_per_image": slope for k, slope in slopes.items()}
    constant = {f"{k}_constant": small[k] - SIZES[0] * slopes[k] for k in small}
    return per_image | constant | state_bytes(config)


def cost(config: TrainConfig) -> dict[str, float]:
    """By XLA's own analysis of the compiled step."""
    program = build_program(config, IMAGENET, unroll=False)
    batch = streamed_batch(config)
    compiled = program.step.lower(program.abstract_state, batch).compile()
    analysis, memory = compiled.cost_analysis(), compiled.memory_analysis()
    return {
        "flop": analysis["flops"],
        "bytes_accessed": analysis["bytes accessed"],
        "temporary_bytes": memory.temp_size_in_bytes,
    }


def state_bytes(config: TrainConfig) -> dict[str, Any]:
    """Bytes of the gradient, and of the state on one device under --shard-state."""
    state = build_program(replace(config, batch_size=2), IMAGENET).abstract_state
    leaves = jax.tree.leaves(state)
    gradient = jax.tree.leaves(state.online_params)

    def on_each(devices: int) -> int:
        mesh = AbstractMesh((devices, 1), ("data", "model"))
        shardings = jax.tree.leaves(state_shardings(state, mesh, over_data=True))
        return sum(
            math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
            for leaf, sharding in zip(leaves, shardings, strict=True)
        )

    return {
        "state_bytes": on_each(1),
        "sharded_state_bytes": {n: on_each(n) for n in DEVICES},
        "gradient_bytes": sum(x.size * x.dtype.itemsize for x in gradient),
    }


if __name__ == "__main__":
    exit_on_error(lambda: print(json.dumps(main(cli(Arguments)))))
