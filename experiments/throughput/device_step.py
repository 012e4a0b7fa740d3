"""One measurement of `device`, in a process of its own; prints JSON.

python -m experiments.throughput.device_step --workload=resnet18_32 --norm=bn
"""

import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from byol_bnfree import parse_args
from byol_bnfree.command_line import exit_on_error
from byol_bnfree.config import AugmentConfig, Norm
from byol_bnfree.flags import cli
from byol_bnfree.machine.precision import resolve_dtype
from byol_bnfree.training.environment import environment, peak_memory
from byol_bnfree.training.footprint import footprint
from byol_bnfree.training.mesh import batch_sharding
from byol_bnfree.training.parts import DataShape, views_of_step_0
from byol_bnfree.training.program import Program, build_program
from byol_bnfree.whole_run.run import train
from experiments.measuring import check_arguments
from experiments.throughput.device import DeviceWorkload, chosen
from experiments.throughput.measure import PASSES, forward_flops, ready_views
from experiments.throughput.profile import profile
from experiments.throughput.workloads import UNCHANGED

TOGETHER = 10  # steps between two looks at the clock
TOP = 12  # operations of the profile


@dataclass(frozen=True)
class Arguments:
    """Time the step of one workload, or a whole run of it."""

    workload: str = "resnet18_32"
    """A key of WORKLOADS, or of TINY with --tiny."""
    norm: Norm = "bn"
    """Normalization of every part."""
    platform: Literal["gpu", "cpu"] = "gpu"
    """The platform that JAX must run on."""
    seconds: float = 4.0
    """Length of each timing."""
    whole_run: bool = False
    """Time a run, by its own log and by the clock."""
    remat: bool = False
    """As --remat of train."""
    optimizer: Literal["lars", "muon"] = "lars"
    """LARS is the paper's. Our recipes for CIFAR-10 have Muon."""
    tiny: bool = False
    """Take the small workloads."""

    def __post_init__(self):
        check_arguments(self)


def main(arguments: Arguments) -> dict[str, Any]:
    """The measurement as a dict.

    Raises:
      InputError: for an unknown workload.
    """
    if jax.default_backend() != arguments.platform:
        sys.exit(
            f"JAX runs on {jax.default_backend()} here, and not on "
            f"{arguments.platform}; install the matching extra, or give --platform."
        )
    (workload,) = chosen((arguments.workload,), arguments.tiny).values()
    if arguments.whole_run:
        return _whole_run(workload, arguments)
    return _step(workload, arguments)


def _whole_run(workload: DeviceWorkload, arguments: Arguments) -> dict[str, Any]:
    """Images a second by the clock, from the row of the first step to that of the last.

    `logged` is the rate by the run's own log, which leaves saves out. `end_seconds` is
    the time after the last row: the final save, pictures and the summary. It does not
    grow with the run, so it is no part of the rate of a short one.
    """
    steps = 12 if arguments.tiny else 400 if workload.image_size < 100 else 150
    times, rows = [], []

    def on_row(row: dict[str, float]) -> None:
        times.append(time.perf_counter())
        rows.append(row)

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        flags = [*_flags(workload, arguments, steps), f"--workdir={folder}/run"]
        summary = train(parse_args(flags), on_row)
        ended = time.perf_counter()
    return {
        "images_per_s": workload.batch_size * (steps - 1) / (times[-1] - times[0]),
        "logged": summary["images_per_s"],
        "data_wait": summary["data_wait"],
        "first_step_seconds": rows[0]["perf/first_step_seconds"],
        "seconds": ended - began,
        "end_seconds": ended - times[-1],
        "peak_gib": peak_memory(),
    }


def _flags(workload: DeviceWorkload, arguments: Arguments, steps: int) -> list[str]:
    flags = workload.flags(arguments.norm, steps)
    optimizer = f"--optim.name={arguments.optimizer}"
    return [*flags, optimizer, *["--remat"] * arguments.remat]


def _step(workload: DeviceWorkload, arguments: Arguments) -> dict[str, Any]:
    """The step on ready views, as the peer's, and beside it the time to draw views.

    Only one step is compiled. `with_views` adds the times of the two programs. In one
    program they may overlap; a whole run shows that.
    """
    config = parse_args(_flags(workload, arguments, 10**6))
    plain = AugmentConfig(view1=UNCHANGED, view2=UNCHANGED)
    size = workload.image_size
    shape = DataShape(50_000, 10, (size, size, 3))
    program = build_program(dataclasses.replace(config, augment=plain), shape)
    sharding = batch_sharding(program.mesh)
    ready = jax.device_put(ready_views(config.batch_size, size), sharding)
    whole = {name: value for name, value in ready.items() if name != "crops"}
    whole["image"] = ready["crops"][:, 0]
    began = time.perf_counter()
    step = program.step.lower(program.abstract_state, ready).compile()
    compile_seconds = time.perf_counter() - began
    memory = footprint(step, program)
    rate = _rate(step, program, ready, arguments.seconds)
    peak = peak_memory()  # of the step; what follows needs memory of its own
    limit = matrix_rate(256 if arguments.tiny else 8192)
    # Of the whole batch: a program's own `views` are a few images for a picture.
    draw = partial(views_of_step_0(config), key=jax.random.key(config.seed))
    views = jax.jit(draw, in_shardings=(sharding,))
    of_step = config.batch_size / rate
    of_views = _seconds(lambda: views(whole), arguments.seconds)
    operations = profile(step, program, ready)
    gflop = PASSES * forward_flops(program) / 1e9
    return {
        "images_per_s": rate,
        "with_views_images_per_s": config.batch_size / (of_step + of_views),
        "views_part": of_views / (of_step + of_views),
        "part_of_limit": rate * gflop / 1e3 / limit,
        "matrix_tflop_per_s": limit,
        "gflop_per_image": gflop,
        "compile_seconds": compile_seconds,
        "memory": None if memory is None else str(memory),
        "peak_gib": peak,
        "compute_dtype": resolve_dtype(config.compute_dtype),
        "remat": config.remat,
        "kernels": program.kernels,
        "profile_part": sum(operations.values()) / (1e3 * of_step),
        "top_ms": dict(operations.most_common(TOP)),
        "environment": environment(),
    }


def _rate(step: Callable, program: Program, batch: dict, seconds: float) -> float:
    """Images a second; the device is never waited for within `TOGETHER` steps."""
    state = program.init(batch)

    def several() -> Any:
        nonlocal state
        for _ in range(TOGETHER):
            state, metrics, _ = step(state, batch)
        return metrics

    size = program.config.batch_size
    return size * TOGETHER / _seconds(several, seconds)


def _seconds(work: Callable[[], Any], seconds: float) -> float:
    """Median time of a call, after a first one."""
    jax.block_until_ready(work())
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(times) < 3:
        began = time.perf_counter()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def matrix_rate(size: int) -> float:
    """TFLOP/s of a bfloat16 matrix product: what the device can do at best.

    Of random numbers, since a device may draw less power for equal ones.
    """
    x = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
    product = jax.jit(lambda x: x @ x)

    def several() -> Any:
        return [product(x) for _ in range(TOGETHER)][-1]

    return 2 * size**3 * TOGETHER / _seconds(several, 1.0) / 1e12


if __name__ == "__main__":
    exit_on_error(lambda: print(json.dumps(main(cli(Arguments)))))
