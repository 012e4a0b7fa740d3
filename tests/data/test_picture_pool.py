"""A process that the system ended while it decoded ends the run, which is saved."""

from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from PIL import Image

from byol_bnfree.config import DataConfig, TrainConfig
from byol_bnfree.data import picture_pool
from byol_bnfree.data.reading import ReadingFailed
from byol_bnfree.data.sources import open_source


class Broken(ThreadPoolExecutor):
    """As a pool of processes of which the kernel killed one."""

    def map(self, *args, **kwargs):
        raise BrokenProcessPool("A process in the process pool was terminated")


def test_a_killed_process_is_one_sentence_and_the_pool_starts_anew(
    tmp_path, monkeypatch
):
    for k in range(3):
        Image.new("RGB", (9, 8 + k)).save(tmp_path / f"{k}.png")  # so that it streams
    data = DataConfig(image_size=4)
    config = TrainConfig(dataset=f"folder:{tmp_path}", steps=1, data=data)
    source, some = open_source(config, "train"), np.arange(3)
    monkeypatch.setattr(picture_pool, "reading_pool", lambda wanted: Broken(1))
    with pytest.raises(ReadingFailed, match="ended.*lower --data.workers") as error:
        source.crops(some, some, 0)
    assert isinstance(error.value, OSError)  # for which the loop saves
    monkeypatch.setattr(picture_pool, "reading_pool", ThreadPoolExecutor)
    assert source.crops(some, some, 0)["crops"].shape == (3, 2, 4, 4, 3)
    source.close()


@pytest.mark.parametrize("pictures, workers", [(64, 15), (256, 15), (8, 15), (9, 0)])
def test_each_worker_has_two_messages_of_a_batch_if_there_are_enough(pictures, workers):
    size = picture_pool.message_size(pictures, workers)
    assert 1 <= size <= picture_pool.PICTURES_PER_MESSAGE
    assert size == 1 or pictures / size >= 2 * workers
