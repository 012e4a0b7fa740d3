"""Does our reading of pictures keep up with grain's?

    pip install grain && python -m experiments.decoding.loaders

Both read the same JPEGs in the same shuffled order, and both decode and crop with this
package's functions. Only the machinery around them differs: order, parallelism,
batching, and reading ahead. Each loader is timed in turn. The rounds are appended to
loaders.jsonl.
"""

import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grain
import numpy as np
from absl import flags

from byol_bnfree.config import AugmentConfig, DataConfig, EvalConfig, TrainConfig
from byol_bnfree.data.crops import random_crops
from byol_bnfree.data.decode import decode
from byol_bnfree.data.pipeline import PREFETCH, Batches
from byol_bnfree.data.sources import open_source
from byol_bnfree.data.workers import usable_cores
from byol_bnfree.flags import cli
from byol_bnfree.training.environment import environment
from byol_bnfree.training.mesh import batch_sharding, make_mesh
from experiments.decoding.pictures import write_pictures

RESULTS = Path(__file__).with_name("loaders.jsonl")
BATCH, SIZE, SEED = 32, 224, 0


@dataclass(frozen=True)
class Arguments:
    """Time our pipeline and grain's on the same pictures."""

    pictures: int = 960
    """Number of JPEGs."""
    rounds: int = 3
    """Number of rounds; medians are reported."""


class Crops(grain.transforms.RandomMap):
    """Decodes a JPEG and cuts two crops, with grain's random numbers."""

    def random_map(self, path: str, rng: np.random.Generator) -> np.ndarray:
        """Return crops [2 h w c]."""
        picture = decode(Path(path).read_bytes(), path, channels=3)
        views = AugmentConfig().view1, AugmentConfig().view2
        return random_crops(picture, (SIZE, SIZE), views, (int(rng.integers(2**31)),))


def ours(folder: Path) -> Iterator:
    """Yield the batches of one epoch, as a training run reads them."""
    config = TrainConfig(
        dataset=f"folder:{folder}",
        data=DataConfig(image_size=SIZE, in_memory_gib=1e-9, unlabelled=True),
        evaluation=EvalConfig(skip=True, knn_every_epochs=0),
    )
    source = open_source(config, "train")
    batches = Batches(source, BATCH, SEED, batch_sharding(make_mesh()))
    yield from batches.iterate(0, len(source) // BATCH)
    source.close()


def grains(folder: Path, processes: int) -> Iterator:
    """Yield the same by grain, in its threads or in processes."""
    paths = [str(path) for path in sorted(folder.rglob("*.jpg"))]
    order = grain.MapDataset.source(paths).seed(SEED).shuffle()
    # It reads two batches ahead, as our pipeline does.
    options = grain.ReadOptions(usable_cores(), prefetch_buffer_size=PREFETCH * BATCH)
    crops = order.random_map(Crops()).to_iter_dataset(options)
    batches = crops.batch(BATCH, drop_remainder=True)
    if processes:
        options = grain.MultiprocessingOptions(processes, per_worker_buffer_size=1)
        batches = batches.mp_prefetch(options)
    yield from batches


def rate(batches: Iterator) -> float:
    """Return images per second from the second batch on; the first starts the pool."""
    next(batches)
    began, count = time.perf_counter(), 0
    for _ in batches:
        count += BATCH
    return count / (time.perf_counter() - began)


def main(arguments: Arguments) -> None:
    """Measure in turn, append to loaders.jsonl, print medians and ratios."""
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
            {name: rate(loader()) for name, loader in loaders.items()}
            for _ in range(arguments.rounds)
        ]
    row = {
        "arguments": dataclasses.asdict(arguments),
        "images_per_s": rounds,
        "grain": grain.__version__,
        "cores": cores,
        "environment": environment(),
    }
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")
    medians = {
        name: statistics.median(found[name] for found in rounds) for name in loaders
    }
    for name, median in medians.items():
        print(f"{name}: {median:.0f} images/s, {median / medians['ours']:.2f} of ours")


if __name__ == "__main__":
    flags.FLAGS([__file__])  # grain's processes read settings of absl
    main(cli(Arguments))
