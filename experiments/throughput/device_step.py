"""One measurement of `device`, in a process of its own; prints JSON.

python -m experiments.throughput.device_step --workload=resnet18_32 --norm=bn
"""

import collections
import gzip
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from byol_bnfree import parse_args
from byol_bnfree.config import Norm
from byol_bnfree.flags import cli
from byol_bnfree.precision import resolve_dtype
from byol_bnfree.training.environment import environment, peak_memory
from byol_bnfree.training.footprint import footprint
from byol_bnfree.training.mesh import batch_sharding
from byol_bnfree.training.parts import DataShape
from byol_bnfree.training.program import Program, build_program
from byol_bnfree.whole_run.run import train
from experiments.throughput.device import TINY, WORKLOADS, DeviceWorkload
from experiments.throughput.hotspots import kinds
from experiments.throughput.measure import PASSES, forward_flops, ready_views

TOGETHER = 10  # steps between two looks at the clock
TOP = 12  # operations of the profile


@dataclass(frozen=True)
class Arguments:
    """Time the step of one workload, or a whole run of it."""

    workload: str = "resnet18_32"
    """A key of WORKLOADS."""
    norm: Norm = "bn"
    """Normalization of every part."""
    platform: Literal["gpu", "cpu"] = "gpu"
    """The platform that JAX must run on."""
    seconds: float = 4.0
    """Length of each timing."""
    whole_run: bool = False
    """Time a run by its own log."""
    tiny: bool = False
    """Take the small workloads."""


def main(arguments: Arguments) -> dict[str, Any]:
    """The measurement as a dict."""
    if jax.default_backend() != arguments.platform:
        sys.exit(
            f"JAX runs on {jax.default_backend()} here, and not on "
            f"{arguments.platform}; install the matching extra, or give --device."
        )
    workload = (TINY if arguments.tiny else WORKLOADS)[arguments.workload]
    if arguments.whole_run:
        return _whole_run(workload, arguments)
    return _step(workload, arguments)


def _whole_run(workload: DeviceWorkload, arguments: Arguments) -> dict[str, Any]:
    """Images a second by the run's own log, without its first step."""
    steps = 12 if arguments.tiny else 400
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        flags = workload.flags(arguments.norm, steps)
        rows = []
        summary = train(parse_args([*flags, f"--workdir={folder}/run"]), rows.append)
    return {
        "images_per_s": summary["images_per_s"],
        "data_wait": summary["data_wait"],
        "first_step_seconds": rows[0]["perf/first_step_seconds"],
        "seconds": time.perf_counter() - began,
    }


def _step(workload: DeviceWorkload, arguments: Arguments) -> dict[str, Any]:
    """The step on ready views, and with views drawn on the device."""
    config = parse_args(workload.flags(arguments.norm, 10**6))
    size = workload.image_size
    program = build_program(config, DataShape(50_000, 10, (size, size, 3)))
    sharding = batch_sharding(program.mesh)
    ready = jax.device_put(ready_views(config.batch_size, size), sharding)
    whole = {name: value for name, value in ready.items() if name != "crops"}
    whole["image"] = ready["crops"][:, 0]
    limit = matrix_rate(256 if arguments.tiny else 8192)
    began = time.perf_counter()
    step = program.step.lower(program.abstract_state, whole).compile()
    compile_seconds = time.perf_counter() - began
    memory = footprint(step, program)
    drawn = _rate(step, program, whole, arguments.seconds)
    profile = _profile(step, program, whole)
    bare = program.step.lower(program.abstract_state, _plain(ready)).compile()
    views = jax.jit(program.views).lower(whole).compile()
    seconds = _seconds(lambda: views(whole), arguments.seconds)
    gflop = PASSES * forward_flops(program) / 1e9
    return {
        "images_per_s": drawn,
        "from_crops_images_per_s": _rate(bare, program, ready, arguments.seconds),
        "views_part": seconds * drawn / config.batch_size,
        "part_of_limit": drawn * gflop / 1e3 / limit,
        "matrix_tflop_per_s": limit,
        "gflop_per_image": gflop,
        "compile_seconds": compile_seconds,
        "memory": None if memory is None else str(memory),
        "peak_gib": peak_memory(),
        "compute_dtype": resolve_dtype(config.compute_dtype),
        "kernels": program.kernels,
        "top_ms": profile,
        "environment": environment(),
    }


def _plain(batch: dict) -> dict:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), batch
    )


def _rate(step: Callable, program: Program, batch: dict, seconds: float) -> float:
    """Images a second; the device is never waited for within `TOGETHER` steps."""
    state = program.init(batch)

    def several() -> Any:
        nonlocal state
        for _ in range(TOGETHER):
            state, metrics = step(state, batch)
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
    """TFLOP/s of a bfloat16 matrix product: what the device can do at best."""
    x = jnp.asarray(np.ones((size, size)), jnp.bfloat16)
    product = jax.jit(lambda x: x @ x)
    return 2 * size**3 / _seconds(lambda: product(x), 1.0) / 1e12


def _profile(step: Callable, program: Program, batch: dict) -> dict[str, float]:
    """Milliseconds a step of the operations that take longest."""
    state, steps = program.init(batch), 5
    state, metrics = step(state, batch)
    jax.block_until_ready(metrics)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(steps):
                state, metrics = step(state, batch)
            jax.block_until_ready(metrics)
        paths = list(Path(folder).rglob("*.trace.json.gz"))
        seconds = _add_up(paths, kinds(step.as_text()))
    return {name: 1e3 * t / steps for name, t in seconds.most_common(TOP)}


def _add_up(paths: list[Path], kind_of: dict[str, str]) -> collections.Counter[str]:
    """Seconds by kind of operation; a fusion counts as its last one."""
    seconds: collections.Counter[str] = collections.Counter()
    for path in paths:
        with gzip.open(path) as file:
            events = json.load(file)["traceEvents"]
        for event in events:
            operation = event.get("args", {}).get("hlo_op", event.get("name"))
            if event.get("ph") == "X" and operation in kind_of:
                seconds[kind_of[operation]] += event["dur"] / 1e6
    return seconds


if __name__ == "__main__":
    print(json.dumps(main(cli(Arguments))))
