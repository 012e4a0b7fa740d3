"""How many ImageNet-sized JPEGs does a core decode and crop in a second?

    taskset -c 0 python -m experiments.decoding --peer PYTHON_WITH_TORCHVISION
    taskset -c 0 python -m experiments.decoding --views 2 --small 4

On one core: both read the same 500 x 375 JPEGs (noise with the spectrum of
photographs, about 135 kB each) and cut two random resized crops of 224 pixels, in turn.
Without the peer the crops may be more, and small ones may be added. Appends every round
to results.jsonl.
"""

import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.config import TrainConfig, ViewsConfig
from byol_bnfree.errors import InputError
from byol_bnfree.files import append_row
from byol_bnfree.flags import cli
from byol_bnfree.settings.view_checks import check_small_size
from experiments.measuring import check_arguments

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
    views: int = 2
    """Number of large crops, of 224 pixels. The peer cuts two."""
    small: int = 0
    """Number of small crops. The peer cuts none."""
    small_size: int | None = None
    """Side of a small crop in pixels. None: half the side of a large one."""

    def __post_init__(self):
        check_arguments(self)


def main(arguments: Arguments) -> None:
    """Measure in turn, append to results.jsonl, print the medians.

    Raises:
      InputError: if the peer would cut other crops.
    """
    crops = {
        name: getattr(arguments, name) for name in ("views", "small", "small_size")
    }
    if arguments.peer and crops != {"views": 2, "small": 0, "small_size": None}:
        raise InputError(
            "--peer cuts two large crops; remove --views, --small and --small-size, or "
            "remove --peer."
        )
    # After parsing: --help needs no JAX.
    from byol_bnfree.data.workers import usable_cores
    from byol_bnfree.training.environment import environment
    from experiments.decoding.pictures import SIDE, our_rate, write_pictures

    if (cores := usable_cores()) > 1:
        print(f"this process may use {cores} cores; see taskset in --help")
    views = TrainConfig(
        views=ViewsConfig(
            arguments.views, small=arguments.small, small_size=arguments.small_size
        )
    ).views  # checked
    check_small_size(views.small_size, SIDE, SIDE)
    with tempfile.TemporaryDirectory() as folder:
        size = write_pictures(Path(folder), arguments.pictures)
        rounds = []
        for _ in range(arguments.rounds):
            rates = {"ours": our_rate(Path(folder), views)}
            if arguments.peer:
                command = [arguments.peer, str(PEER), folder]
                rates["torchvision"] = float(subprocess.check_output(command))
            rounds.append(rates)
    row = {
        "images_per_s": rounds,
        "kilobytes": size / 1e3,
        "cores": cores,
        "crops": crops,
        "environment": environment(),
    }
    append_row(RESULTS, row)
    for name in rounds[0]:
        rate = statistics.median(found[name] for found in rounds)
        print(
            f"{name}: {rate:.0f} images/s; {ACCELERATOR} a second take "
            f"{ACCELERATOR / rate:.0f} such cores"
        )


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments)))
