"""Does our reading of pictures keep up with grain's?

    pip install grain && python -m experiments.decoding.loaders

Both read the same JPEGs in the same shuffled order, and both decode and crop with this
package's functions. Only the machinery around them differs: order, parallelism,
batching, and reading ahead. Each loader is timed in turn. The rounds are appended to
loaders.jsonl.
"""

import dataclasses
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.errors import InputError
from byol_bnfree.files import append_row
from byol_bnfree.flags import cli
from experiments.measuring import check_arguments

RESULTS = Path(__file__).with_name("loaders.jsonl")


@dataclass(frozen=True)
class Arguments:
    """Time our pipeline and grain's on the same pictures."""

    pictures: int = 960
    """Number of JPEGs."""
    rounds: int = 3
    """Number of rounds; medians are reported."""

    def __post_init__(self):
        check_arguments(self)


def rate(batches: Iterator, size: int) -> float:
    """Return images per second from the second batch of `size` images on.

    The first batch starts the pool.
    """
    next(batches)
    began, count = time.perf_counter(), 0
    for _ in batches:
        count += size
    return count / (time.perf_counter() - began)


def main(arguments: Arguments) -> None:
    """Measure in turn, append to loaders.jsonl, print medians and ratios.

    Raises:
      InputError: if grain is not installed.
    """
    if importlib.util.find_spec("grain") is None:
        raise InputError("grain is not installed; run pip install grain.")
    # After parsing: --help needs no JAX.
    import grain
    from absl import flags

    from byol_bnfree.data.workers import usable_cores
    from byol_bnfree.training.environment import environment
    from experiments.decoding.pictures import write_pictures
    from experiments.decoding.pipelines import BATCH, grains, ours

    flags.FLAGS([__file__])  # grain's processes read settings of absl
    cores = usable_cores()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder, arguments.pictures)
        loaders: dict[str, Callable[[], Iterator]] = {
            "ours": lambda: ours(folder),
            "grain, threads": lambda: grains(folder, 0),
            f"grain, {cores} processes": lambda: grains(folder, cores),
        }
        rounds = [
            {name: rate(loader(), BATCH) for name, loader in loaders.items()}
            for _ in range(arguments.rounds)
        ]
    row = {
        "arguments": dataclasses.asdict(arguments),
        "images_per_s": rounds,
        "grain": grain.__version__,
        "cores": cores,
        "environment": environment(),
    }
    append_row(RESULTS, row)
    medians = {
        name: statistics.median(found[name] for found in rounds) for name in loaders
    }
    for name, median in medians.items():
        print(f"{name}: {median:.0f} images/s, {median / medians['ours']:.2f} of ours")


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments)))
