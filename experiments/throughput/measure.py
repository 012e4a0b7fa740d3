"""One measurement in a process of its own; prints JSON, as the peer does.

python -m experiments.throughput.measure --workload=cifar_thin --norm=bn
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byol_bnfree import create_network
from byol_bnfree.command_line import exit_on_error
from byol_bnfree.config import Norm
from byol_bnfree.cpu.allocator import keep_freed_memory, run_in_calling_thread
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.data.sources import open_source
from byol_bnfree.flags import cli
from byol_bnfree.training.environment import peak_memory
from byol_bnfree.training.mesh import batch_sharding
from byol_bnfree.training.parts import DataShape
from byol_bnfree.training.program import Program, build_program
from experiments.measuring import check_arguments
from experiments.throughput.workloads import WORKLOADS, config_for

PASSES = 2 * (1 + 2 + 1)  # of two views: online forward, its gradient, target forward
MATMUL_SIZE, MATMUL_REPEATS = 2048, 5


@dataclass(frozen=True)
class Arguments:
    """Time one workload with one norm."""

    workload: Literal[tuple(WORKLOADS)] = "cifar_resnet18"
    """Network and batch."""
    norm: Norm = "gn_ws"
    """Normalization of every part."""
    convolution: Literal["auto", "xla", "onednn"] = "auto"
    """As --run.convolution."""
    seconds: float = 15.0
    """Length of each of the two timings."""

    def __post_init__(self):
        check_arguments(self)


def main(arguments: Arguments) -> dict[str, float | str]:
    """Matrix-product rate, step on ready-made views, then with data and augmentation.

    The two ready-made views differ: of equal ones the compiler would make one.
    """
    run_in_calling_thread()
    workload = WORKLOADS[arguments.workload]
    config = config_for(workload, arguments.norm, arguments.convolution, False)
    shape = DataShape(50_000, 10, (workload.image_size,) * 2 + (3,))
    program, limit = build_program(config, shape), matmul_rate()
    batch = ready_views(config.batch_size, workload.image_size)
    timing = time_step(program, lambda: batch, arguments.seconds)
    peak = peak_memory()["host"]
    gflop = PASSES * forward_flops(program) / 1e9
    return {
        "images_per_s": timing.images_per_s,
        "augmented_images_per_s": augmented_rate(arguments),
        "matmul_gflop_per_s": limit,
        "gflop_per_image": gflop,
        "part_of_limit": timing.images_per_s * gflop / limit,
        "compile_seconds": timing.compile_seconds,
        "temporaries_gib": timing.temporaries_gib,
        "peak_gib": peak,
        "kernels": program.kernels,
    }


def ready_views(batch_size: int, image_size: int) -> dict[str, np.ndarray]:
    """Two different random pictures for each example."""
    draws = np.random.default_rng(0)
    shape = (batch_size, 2, image_size, image_size, 3)
    return {
        "crops": draws.integers(0, 256, shape, dtype=np.uint8),
        "label": draws.integers(0, 10, batch_size).astype(np.int32),
        "position": np.arange(batch_size, dtype=np.int32),
    }


def augmented_rate(arguments: Arguments) -> float:
    """Images per second with batches from a source and the recipe's augmentation."""
    workload = WORKLOADS[arguments.workload]
    config = config_for(workload, arguments.norm, arguments.convolution, True)
    source = open_source(config, "train")
    shape = DataShape(len(source), source.num_classes, source.image_shape)
    program = build_program(config, shape)
    batches = Batches(
        source, config.batch_size, config.seed, batch_sharding(program.mesh)
    )
    made_ahead: Iterator = batches.iterate(0, 10**6)
    return time_step(program, lambda: next(made_ahead), arguments.seconds).images_per_s


class Timing(NamedTuple):
    """A step, compiled ahead of its first call."""

    compile_seconds: float
    """Seconds of tracing, lowering and compiling."""
    temporaries_gib: float
    """Memory of the step beside its arguments and results, by the compiler's count."""
    images_per_s: float


def time_step(
    program: Program, next_batch: Callable[[], dict], seconds: float
) -> Timing:
    """Median over at least three steps and that many seconds, after a first step."""
    batch, began = next_batch(), time.perf_counter()
    step = program.step.lower(program.abstract_state, batch).compile()
    compile_seconds = time.perf_counter() - began
    state = program.init(batch)
    keep_freed_memory()
    state, metrics, _ = step(state, batch)
    jax.block_until_ready(metrics)
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(times) < 3:
        began = time.perf_counter()
        state, metrics, _ = step(state, next_batch())
        jax.block_until_ready(metrics)
        times.append(time.perf_counter() - began)
    return Timing(
        compile_seconds,
        step.memory_analysis().temp_size_in_bytes / 2**30,
        program.config.batch_size / statistics.median(times),
    )


def matmul_rate() -> float:
    """GFLOP/s of a float32 matrix product: what the machine can do at best."""
    x = jnp.ones((MATMUL_SIZE, MATMUL_SIZE))
    product = jax.jit(lambda x: x @ x)
    product(x).block_until_ready()
    times = []
    for _ in range(MATMUL_REPEATS):
        began = time.perf_counter()
        product(x).block_until_ready()
        times.append(time.perf_counter() - began)
    return 2 * MATMUL_SIZE**3 / statistics.median(times) / 1e9


def forward_flops(program: Program) -> float:
    """Operations of convolutions and matrix products for one image, one pass."""
    state = program.abstract_state
    # XLA's layers. BatchNorm has no statistics of one image, so two pass.
    network = create_network(program.config, program.data.num_classes, stat_groups=1)

    def forward(params, stats, images):
        return network.online(params, stats, images, True)[0]

    shape = jax.ShapeDtypeStruct((2, *program.data.image_shape), "float32")
    jaxpr = jax.make_jaxpr(forward)(state.online_params, state.online_stats, shape)
    return sum(_products(jaxpr.jaxpr)) / 2


def _products(jaxpr):
    """2 x output size x terms of each sum, for every convolution and dot."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            kernel, out = equation.invars[1].aval, equation.outvars[0].aval
            yield 2 * out.size * kernel.size / kernel.shape[-1]
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from _products(value.jaxpr)


if __name__ == "__main__":
    exit_on_error(lambda: print(json.dumps(main(cli(Arguments)))))
