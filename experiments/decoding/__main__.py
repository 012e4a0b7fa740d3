"""How many ImageNet-sized JPEGs does a core decode and crop twice in a second?

    taskset -c 0 python -m experiments.decoding --peer PYTHON_WITH_TORCHVISION

On one core: both read the same 500 x 375 JPEGs (noise with the spectrum of
photographs, about 135 kB each) and cut two random resized crops of 224 pixels, in turn.
Appends every round to results.jsonl.
"""

import json
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from byol_bnfree.flags import cli

RESULTS = Path(__file__).with_name("results.jsonl")
PEER = Path(__file__).with_name("peer_torchvision.py")
ACCELERATOR = 3000  # images/s that one accelerator takes


@dataclass(frozen=True)
class Arguments:
    """Decode and crop JPEGs on one core, and compare with torchvision."""

    peer: str | None = None
    """A Python with torchvision. None: time only this package."""
    pictures: int = 200
    """Number of JPEGs in a round."""
    rounds: int = 5
    """Number of rounds; medians are reported."""


def main(arguments: Arguments) -> None:
    """Measure in turn, append to results.jsonl, print the medians."""
    # After parsing: --help needs no JAX.
    from byol_bnfree.data.workers import usable_cores
    from byol_bnfree.training.environment import environment
    from experiments.decoding.pictures import our_rate, write_pictures

    if (cores := usable_cores()) > 1:
        print(f"this process may use {cores} cores; see taskset in --help")
    with tempfile.TemporaryDirectory() as folder:
        size = write_pictures(Path(folder), arguments.pictures)
        rounds = []
        for _ in range(arguments.rounds):
            rates = {"ours": our_rate(Path(folder))}
            if arguments.peer:
                command = [arguments.peer, str(PEER), folder]
                rates["torchvision"] = float(subprocess.check_output(command))
            rounds.append(rates)
    row = {"images_per_s": rounds, "kilobytes": size / 1e3, "cores": cores}
    with RESULTS.open("a") as file:
        file.write(json.dumps(row | {"environment": environment()}) + "\n")
    for name in rounds[0]:
        rate = statistics.median(found[name] for found in rounds)
        print(
            f"{name}: {rate:.0f} images/s; {ACCELERATOR} a second take "
            f"{ACCELERATOR / rate:.0f} such cores"
        )


if __name__ == "__main__":
    main(cli(Arguments))
