"""One measurement of `device`, in a process of its own; prints JSON.

python -m experiments.throughput.device_step --workload=resnet18_32 --norm=bn
"""

import dataclasses
import gzip
import json
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

from byol_bnfree import parse_args
from byol_bnfree.config import AugmentConfig, Norm
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
from experiments.throughput.workloads import UNCHANGED

TOGETHER = 10  # steps between two looks at the clock
TOP = 12  # operations of the profile
NUMBER = re.compile(r"[._]\d+$")  # at the end of a kernel's name


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
    """Time a run, by its own log and by the clock."""
    remat: bool = False
    """As --remat of train."""
    tiny: bool = False
    """Take the small workloads."""


def main(arguments: Arguments) -> dict[str, Any]:
    """The measurement as a dict."""
    if jax.default_backend() != arguments.platform:
        sys.exit(
            f"JAX runs on {jax.default_backend()} here, and not on "
            f"{arguments.platform}; install the matching extra, or give --platform."
        )
    workload = (TINY if arguments.tiny else WORKLOADS)[arguments.workload]
    if arguments.whole_run:
        return _whole_run(workload, arguments)
    return _step(workload, arguments)


def _whole_run(workload: DeviceWorkload, arguments: Arguments) -> dict[str, Any]:
    """Images a second by the clock from the end of the first step to the end of all.

    `logged` is the rate by the run's own log, which leaves saves out.
    """
    steps = 12 if arguments.tiny else 400 if workload.image_size < 100 else 150
    times, rows = [], []

    def on_row(row: dict[str, float]) -> None:
        times.append(time.perf_counter())
        rows.append(row)

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        flags = [*workload.flags(arguments.norm, steps), f"--workdir={folder}/run"]
        summary = train(parse_args([*flags, *_remat(arguments)]), on_row)
        ended = time.perf_counter()
    return {
        "images_per_s": workload.batch_size * (steps - 1) / (ended - times[0]),
        "logged": summary["images_per_s"],
        "data_wait": summary["data_wait"],
        "first_step_seconds": rows[0]["perf/first_step_seconds"],
        "seconds": ended - began,
        "peak_gib": peak_memory(),
    }


def _remat(arguments: Arguments) -> list[str]:
    return ["--remat"] * arguments.remat


def _step(workload: DeviceWorkload, arguments: Arguments) -> dict[str, Any]:
    """The step on ready views, as the peer's, and beside it the time to draw views.

    Only one step is compiled. `with_views` adds the times of the two programs. In one
    program they may overlap; a whole run shows that.
    """
    config = parse_args([*workload.flags(arguments.norm, 10**6), *_remat(arguments)])
    plain = AugmentConfig(view1=UNCHANGED, view2=UNCHANGED)
    size = workload.image_size
    shape = DataShape(50_000, 10, (size, size, 3))
    program = build_program(dataclasses.replace(config, augment=plain), shape)
    drawing = build_program(config, shape)
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
    views = jax.jit(drawing.views).lower(whole).compile()
    of_step = config.batch_size / rate
    of_views = _seconds(lambda: views(whole), arguments.seconds)
    operations = _profile(step, program, ready)
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
    """TFLOP/s of a bfloat16 matrix product: what the device can do at best.

    Of random numbers, since a device may draw less power for equal ones.
    """
    x = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
    product = jax.jit(lambda x: x @ x)

    def several() -> Any:
        return [product(x) for _ in range(TOGETHER)][-1]

    return 2 * size**3 * TOGETHER / _seconds(several, 1.0) / 1e12


def _profile(step: Callable, program: Program, batch: dict) -> Counter[str]:
    """Milliseconds a step, by kind of operation; empty if there is no trace."""
    state, steps = program.init(batch), 5
    state, metrics = step(state, batch)
    jax.block_until_ready(metrics)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(steps):
                state, metrics = step(state, batch)
            jax.block_until_ready(metrics)
        kind_of, seconds = kinds(step.as_text()), Counter()
        for path in Path(folder).rglob("*.trace.json.gz"):
            with gzip.open(path) as file:
                seconds += by_kind(json.load(file)["traceEvents"], kind_of)
    return Counter({name: 1e3 * t / steps for name, t in seconds.items()})


def by_kind(events: list[dict[str, Any]], kind_of: dict[str, str]) -> Counter[str]:
    """Seconds by kind of operation; a fusion counts as its last one.

    On a GPU every event of a stream counts. One without a known operation, such as a
    kernel of a CUDA graph or a copy to the host, goes by its own name.
    """
    streams = _streams(events)
    seconds: Counter[str] = Counter()
    for event in events:
        if event.get("ph") != "X" or "dur" not in event:
            continue
        name = event.get("name", "?")
        operation = event.get("args", {}).get("hlo_op", name)
        if (event.get("pid"), event.get("tid")) in streams:
            seconds[kind_of.get(operation, NUMBER.sub("", name))] += event["dur"] / 1e6
        elif not streams and operation in kind_of:
            seconds[kind_of[operation]] += event["dur"] / 1e6
    return seconds


def _streams(events: list[dict[str, Any]]) -> set[tuple[Any, Any]]:
    """Processes and threads of a trace that are streams of a GPU."""
    named = [
        (event["name"], event.get("pid"), event.get("tid"), event["args"]["name"])
        for event in events
        if event.get("name") in ("process_name", "thread_name")
        and "name" in event.get("args", {})
    ]
    gpus = {
        pid
        for kind, pid, _, name in named
        if kind == "process_name" and "device:GPU" in name
    }
    return {
        (pid, tid)
        for kind, pid, tid, name in named
        if kind == "thread_name" and pid in gpus and name.startswith("Stream")
    }


if __name__ == "__main__":
    print(json.dumps(main(cli(Arguments))))
