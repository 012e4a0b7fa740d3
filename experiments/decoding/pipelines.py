"""One epoch of batches of crops, by our pipeline and by grain's."""

from collections.abc import Iterator
from pathlib import Path

import grain
import numpy as np

from byol_bnfree.config import AugmentConfig, DataConfig, EvalConfig, TrainConfig
from byol_bnfree.data.crops import random_crops
from byol_bnfree.data.decode import decode
from byol_bnfree.data.pipeline import PREFETCH, Batches
from byol_bnfree.data.sources import open_source
from byol_bnfree.data.workers import usable_cores
from byol_bnfree.training.mesh import batch_sharding, make_mesh

BATCH, SIZE, SEED = 32, 224, 0


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
