"""Times steps with several numbers of views, in turn."""

import dataclasses
import statistics
import time
from typing import Any

import jax
import numpy as np

from byol_bnfree.config import Norm, ViewsConfig
from byol_bnfree.config_files import load_config
from byol_bnfree.training.parts import DataShape
from byol_bnfree.training.program import Program, build_program

SIDE = 32  # of large views, pixels; small ones have half of it, or the size named
CASES = {
    "2": ViewsConfig(),
    "3": ViewsConfig(count=3),
    "4": ViewsConfig(count=4),
    "2, 4 small": ViewsConfig(small=4),
    "3, 4 small": ViewsConfig(count=3, small=4),
    "4, 4 small": ViewsConfig(count=4, small=4),
    "2, 4 small of 8": ViewsConfig(small=4, small_size=8),
    "2, 4 small of 24": ViewsConfig(small=4, small_size=24),
    "2, one at a time": ViewsConfig(accumulate=True),
    "4, one at a time": ViewsConfig(count=4, accumulate=True),
    "2, 4 small, one at a time": ViewsConfig(small=4, accumulate=True),
}


def measure(
    norm: Norm, batch_size: int, *, rounds: int, steps: int
) -> list[dict[str, Any]]:
    """One row a case; the first is BYOL's two views."""
    batch = _noise(batch_size)
    cases = {}
    for name, views in CASES.items():
        print(f"{norm}, {name}: compiling", flush=True)
        program = _program(norm, views, batch_size)
        found = program.compile_step(jax.device_put(batch))
        state, *_ = program.step(program.init(batch), batch)
        cases[name] = [program, state, [], found.temporaries if found else None]
    for index in range(rounds):
        print(f"{norm}: round {index + 1} of {rounds}", flush=True)
        for case in cases.values():
            program, state, times, _ = case
            began = time.perf_counter()
            for _ in range(steps):
                state, metrics, _ = program.step(state, batch)
            jax.block_until_ready((state, metrics))
            times.append((time.perf_counter() - began) / steps)
            case[1] = state
    base, memory = statistics.median(cases["2"][2]), cases["2"][3]
    return [
        {
            "norm": norm,
            "views": name,
            "seconds": statistics.median(times),
            "time_ratio": statistics.median(times) / base,
            "memory_ratio": temporaries / memory if memory else None,
        }
        for name, (_, _, times, temporaries) in cases.items()
    ]


def _program(norm: Norm, views: ViewsConfig, batch_size: int) -> Program:
    config = load_config("configs/cifar10_cpu.py", norm)
    config = dataclasses.replace(config, batch_size=batch_size, views=views)
    return build_program(config, DataShape(50_000, 10, (SIDE, SIDE, 3)))


def _noise(size: int) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(0)
    return {
        "image": draws.integers(0, 256, (size, SIDE, SIDE, 3), dtype=np.uint8),
        "label": draws.integers(0, 10, size).astype(np.int32),
        "position": np.arange(size, dtype=np.int32),
    }
