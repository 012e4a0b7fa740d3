"""Time and memory of a step by its views, over those of two views.

    python -m experiments.views.cost

Rounds are interleaved, so other work on the machine slows all cases alike. Prints a
table and writes cost.json.
"""

import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from byol_bnfree.config import Norm, ViewsConfig
from byol_bnfree.config_files import load_config
from byol_bnfree.training.parts import DataShape
from byol_bnfree.training.program import Program, build_program

CASES = {
    "2": ViewsConfig(),
    "3": ViewsConfig(count=3),
    "4": ViewsConfig(count=4),
    "2, 4 small": ViewsConfig(small=4),
    "3, 4 small": ViewsConfig(count=3, small=4),
    "2, one at a time": ViewsConfig(accumulate=True),
    "4, one at a time": ViewsConfig(count=4, accumulate=True),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measure the steps of configs/cifar10_cpu.py with several numbers of views."""

    norms: tuple[Norm, ...] = ("bn", "gn_ws")
    """Norms of the whole network."""
    batch_size: int = 256
    """Images of a step."""
    rounds: int = 3
    """Times that each case is measured; the median counts."""
    steps: int = 3
    """Steps of a round."""
    out: Path = Path("experiments/views/cost.json")
    """The results."""


def main(arguments: Arguments) -> None:
    """Compile every case, measure in turns, print."""
    rows = [row for norm in arguments.norms for row in measure(norm, arguments)]
    table = Table("norm", "views", "ms a step", "time over 2 views", "memory over it")
    for row in rows:
        table.add_row(
            row["norm"],
            row["views"],
            f"{1000 * row['seconds']:.0f}",
            f"{row['time_ratio']:.2f}",
            "-" if row["memory_ratio"] is None else f"{row['memory_ratio']:.2f}",
        )
    Console().print(table)
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


def measure(norm: Norm, arguments: Arguments) -> list[dict[str, Any]]:
    """One row a case; the first is BYOL's two views."""
    batch = _noise(arguments.batch_size)
    steps = {}
    for name, views in CASES.items():
        print(f"{norm}, {name}: compiling", flush=True)
        program = _program(norm, views, arguments)
        found = program.compile_step(jax.device_put(batch))
        state, _ = program.step(program.init(batch), batch)
        steps[name] = [program, state, [], found.temporaries if found else None]
    for index in range(arguments.rounds):
        print(f"{norm}: round {index + 1} of {arguments.rounds}", flush=True)
        for case in steps.values():
            program, state, times, _ = case
            began = time.perf_counter()
            for _ in range(arguments.steps):
                state, metrics = program.step(state, batch)
            jax.block_until_ready((state, metrics))
            times.append((time.perf_counter() - began) / arguments.steps)
            case[1] = state
    base, memory = statistics.median(steps["2"][2]), steps["2"][3]
    return [
        {
            "norm": norm,
            "views": name,
            "seconds": statistics.median(times),
            "time_ratio": statistics.median(times) / base,
            "memory_ratio": temporaries / memory if memory else None,
        }
        for name, (_, _, times, temporaries) in steps.items()
    ]


def _program(norm: Norm, views: ViewsConfig, arguments: Arguments) -> Program:
    config = load_config("configs/cifar10_cpu.py", norm)
    config = dataclasses.replace(config, batch_size=arguments.batch_size, views=views)
    return build_program(config, DataShape(50_000, 10, (32, 32, 3)))


def _noise(size: int) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(0)
    return {
        "image": draws.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8),
        "label": draws.integers(0, 10, size).astype(np.int32),
        "position": np.arange(size, dtype=np.int32),
    }


if __name__ == "__main__":
    main(tyro.cli(Arguments))
