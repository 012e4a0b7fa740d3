"""The time of a step by kind of operation, from a trace of JAX's profiler."""

import gzip
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from byol_bnfree.training.program import Program
from experiments.throughput.hotspots import kinds

NUMBER = re.compile(r"[._]\d+$")  # at the end of a kernel's name


def profile(step: Callable, program: Program, batch: dict) -> Counter[str]:
    """Milliseconds a step, by kind of operation; empty if there is no trace."""
    state, steps = program.init(batch), 5
    state, metrics, _ = step(state, batch)
    jax.block_until_ready(metrics)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(steps):
                state, metrics, _ = step(state, batch)
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
