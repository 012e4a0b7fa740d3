"""Runs checks in processes that each have a given number of CPU devices.

JAX fixes the number of devices when it starts.
"""

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import RunStopped
from byol_bnfree.files import write_json
from byol_bnfree.machine.jax_settings import QUICK_TO_COMPILE

SECONDS = 900  # time limit of a process
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    # Communication and partitions are decided before the step that this shortens.
    "XLA_FLAGS": QUICK_TO_COMPILE,
}


def start(module: str, *arguments: str, devices: int, cache: Path) -> subprocess.Popen:
    """Start `python -m module arguments` with a number of CPU devices.

    Compiled programs are stored in `cache` for later processes.
    """
    environment = os.environ | ENVIRONMENT
    environment |= {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
    }
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    """Wait for a process and return its output.

    Raises:
      RunStopped: if it failed, or took longer than `SECONDS`.
    """
    try:
        output, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise RunStopped(f"a check did not end within {SECONDS} seconds.") from None
    if process.returncode:
        last = (errors.strip().splitlines() or ["no message"])[-1]
        raise RunStopped(f"a check ended with status {process.returncode}: {last}")
    return output


def run_tasks(
    config: TrainConfig,
    folder: Path,
    tasks: list[str],
    devices: int,
    processes: int = 1,
) -> dict[str, dict[str, np.ndarray]]:
    """Run the tasks of `runs.py` on `processes` times `devices` devices.

    Calls that use each other's checkpoints and compiled programs share `folder`.
    """
    started = []
    port = _free_port()
    for index in range(processes):
        own = folder / f"{processes}x{devices}_{index}"
        own.mkdir(exist_ok=True)
        if processes > 1:
            config = dataclasses.replace(
                config,
                coordinator=f"127.0.0.1:{port}",
                num_processes=processes,
                process_id=index,
            )
        write_json(own / "config.json", dataclasses.asdict(config))
        module = "byol_bnfree.claims.runs"
        arguments = (str(own), str(folder), *tasks)
        cache = folder / "compiled"
        started.append(start(module, *arguments, devices=devices, cache=cache))
    try:
        for process in started:
            finish(process)
    finally:
        # If one process failed, the others would wait for it.
        for process in started:
            process.kill()
            process.wait()
    return {task: _read(folder / f"{processes}x{devices}_0", task) for task in tasks}


def _read(folder: Path, task: str) -> dict[str, np.ndarray]:
    with np.load(folder / f"{task}.npz", allow_pickle=False) as file:
        return dict(file)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
