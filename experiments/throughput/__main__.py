"""Images per second of one training step on ready-made views, beside a peer.

    python -m experiments.throughput --peer "PYTHON peer.py --workload cifar_resnet18"

Measures in one run, in turn, several times: the machine's matrix-product rate, our
step with each norm, and the peer's command, whose last line of output must be JSON with
"images_per_s". Prints medians and ratios and appends them to results.jsonl. About five
minutes on 2 CPU cores; leave the machine otherwise idle.

The two views differ: of equal ones the compiler would compute one.
"""

import dataclasses
import json
import shlex
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from byol_bnfree import (
    AugmentConfig,
    DataConfig,
    HeadConfig,
    ModelConfig,
    TrainConfig,
    ViewConfig,
    create_network,
)
from byol_bnfree.training.logs import environment
from byol_bnfree.training.program import DataShape, Program, build_program

RESULTS = Path(__file__).with_name("results.jsonl")
UNCHANGED = ViewConfig(flip=0, jitter=0, grayscale=0, blur=0, solarize=0)
PASSES = 2 * (1 + 2 + 1)  # of two views: online forward, its gradient, target forward


@dataclass(frozen=True)
class Workload:
    """A network and a batch."""

    name: str
    image_size: int
    batch_size: int
    stem: str


WORKLOADS = {"cifar_resnet18": Workload("resnet18", 32, 64, "small")}


@dataclass(frozen=True)
class Arguments:
    """Time the training step of each norm, and a peer beside it."""

    workload: str = "cifar_resnet18"
    """One of WORKLOADS."""
    peer: str | None = None
    """Command that prints JSON with images_per_s; run once a round."""
    rounds: int = 3
    """Rounds; medians are reported."""
    seconds: float = 10.0
    """Length of each measurement of ours."""


def main(arguments: Arguments) -> None:
    """Measure in turn, print a table, append to results.jsonl."""
    workload = WORKLOADS[arguments.workload]
    programs = {norm: _program(workload, norm) for norm in ("bn", "gn_ws")}
    batch = _batch(workload)
    states = {norm: p.init(batch) for norm, p in programs.items()}
    rates = {name: [] for name in ("matmul GFLOP/s", *programs, "peer")}
    for _ in range(arguments.rounds):
        rates["matmul GFLOP/s"].append(matmul_rate())
        for norm, program in programs.items():
            rate, states[norm] = step_rate(
                program, states[norm], batch, arguments.seconds
            )
            rates[norm].append(rate)
        if arguments.peer:
            rates["peer"].append(_peer_rate(arguments.peer))
    flops = PASSES * forward_flops(programs["bn"], workload)
    _report(arguments, rates, flops)


def _program(workload: Workload, norm: str) -> Program:
    config = TrainConfig(
        norm=norm,
        batch_size=workload.batch_size,
        steps=10**6,
        model=ModelConfig(
            name=workload.name,
            stem=workload.stem,
            stem_stride=1,
            projector=HeadConfig(hidden=4096, out=256),
            predictor=HeadConfig(hidden=4096, out=256),
        ),
        augment=AugmentConfig(view1=UNCHANGED, view2=UNCHANGED),
        data=DataConfig(image_size=workload.image_size, channels=3),
    )
    config = dataclasses.replace(
        config, optim=dataclasses.replace(config.optim, warmup_epochs=0)
    )
    size = workload.image_size
    return build_program(config, DataShape(50_000, 10, (size, size, 3)))


def _batch(workload: Workload) -> dict[str, np.ndarray]:
    """Two different random pictures as the ready-made views of each example."""
    draws, size = np.random.default_rng(0), workload.image_size
    shape = (workload.batch_size, 2, size, size, 3)
    return {
        "crops": draws.integers(0, 256, shape, dtype=np.uint8),
        "label": draws.integers(0, 10, workload.batch_size).astype(np.int32),
    }


def step_rate(program: Program, state, batch, seconds: float):
    """Median images per second over `seconds`, compilation apart, and the new state."""
    state, metrics = program.step(state, batch)
    jax.block_until_ready(metrics)
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(times) < 3:
        began = time.perf_counter()
        state, metrics = program.step(state, batch)
        jax.block_until_ready(metrics)
        times.append(time.perf_counter() - began)
    return program.config.batch_size / statistics.median(times), state


def matmul_rate(size: int = 2048, repeats: int = 5) -> float:
    """GFLOP/s of a float32 matrix product: what the machine can do at best."""
    x = jnp.ones((size, size))
    product = jax.jit(lambda x: x @ x)
    product(x).block_until_ready()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        product(x).block_until_ready()
        times.append(time.perf_counter() - began)
    return 2 * size**3 / statistics.median(times) / 1e9


def forward_flops(program: Program, workload: Workload) -> float:
    """Operations of convolutions and matrix products for one image, one pass."""
    shape = (1, workload.image_size, workload.image_size, 3)
    state = program.abstract_state
    network = create_network(program.config, program.data.num_classes)  # XLA's layers

    def forward(params, stats, images):
        return network.online(params, stats, images, True)[0]

    jaxpr = jax.make_jaxpr(forward)(
        state.online_params, state.online_stats, jax.ShapeDtypeStruct(shape, "float32")
    )
    return float(sum(_products(jaxpr.jaxpr)))


def _products(jaxpr):
    """2 x output size x terms of each sum, for every convolution and dot."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            kernel, out = equation.invars[1].aval, equation.outvars[0].aval
            yield 2 * out.size * kernel.size / kernel.shape[-1]
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from _products(value.jaxpr)


def _peer_rate(command: str) -> float:
    done = subprocess.run(
        shlex.split(command), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.strip().splitlines()[-1])["images_per_s"]


def _report(arguments: Arguments, rates: dict[str, list[float]], flops: float) -> None:
    median = {k: statistics.median(v) for k, v in rates.items() if v}
    limit = median["matmul GFLOP/s"] * 1e9 / flops
    print(f"matrix product  {median['matmul GFLOP/s']:.0f} GFLOP/s")
    print(f"a step needs    {flops / 1e9:.2f} GFLOP an image: at most {limit:.1f}/s")
    for name in ("bn", "gn_ws", "peer"):
        if name in median:
            against = (
                f"  {median[name] / median['peer']:.2f} x peer"
                if "peer" in median and name != "peer"
                else ""
            )
            print(
                f"{name:<8}{median[name]:>8.1f} images/s"
                f"{100 * median[name] / limit:>6.0f} % of the limit{against}"
            )
    row = {
        "workload": arguments.workload,
        "median": median,
        "all": rates,
        "gflop_per_image": flops / 1e9,
        "environment": environment(),
    }
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
