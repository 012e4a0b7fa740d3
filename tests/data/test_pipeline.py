"""Batches are a pure function of (seed, step), whatever the devices."""

import dataclasses
import threading
from concurrent.futures import Future

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from byol_bnfree.config import DataConfig, TrainConfig
from byol_bnfree.data import pipeline
from byol_bnfree.data.pipeline import Batches, stream_order
from byol_bnfree.data.sources import MemorySource, open_source
from byol_bnfree.errors import InputError


def sharding(data: int, model: int = 1) -> NamedSharding:
    mesh = jax.make_mesh(
        (data, model),
        ("data", "model"),
        axis_types=(AxisType.Auto,) * 2,
        devices=jax.devices()[: data * model],
    )
    return NamedSharding(mesh, P("data"))


def counting_source(n: int) -> MemorySource:
    """Image i is filled with i and has label i % 3."""
    pixels = np.broadcast_to(
        np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 2, 2, 1)
    )
    labels = np.arange(n, dtype=np.int32) % 3
    return MemorySource("n", "train", ("a", "b", "c"), pixels, labels, {})


def batches(n: int = 10, size: int = 4, **options) -> Batches:
    config = TrainConfig(steps=1, batch_size=size, seed=options.pop("seed", 0))
    return Batches(
        counting_source(n),
        config.batch_size,
        config.seed,
        options.get("sharding", sharding(2)),
    )


def numbers(batch) -> list[int]:
    return np.asarray(batch["image"])[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("size", [3, 4, 10, 23])
def test_every_epoch_is_a_full_permutation(size):
    made = batches(10, size, sharding=sharding(1))
    stream = np.concatenate([numbers(made(step)) for step in range(-(-40 // size))])[
        :40
    ]
    epochs = stream.reshape(4, 10)
    assert (np.sort(epochs, axis=1) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 4


def test_order_depends_on_the_seed_and_step_only():
    a, b, other = batches(50, seed=1), batches(50, seed=1), batches(50, seed=2)
    a(0), a(7)
    assert numbers(a(3)) == numbers(b(3)) != numbers(other(3))


def test_pieces_of_the_stream_join():
    whole = stream_order(5, 0, 35, 10)
    pieces = [stream_order(5, a, b, 10) for a, b in ((0, 3), (3, 20), (20, 35))]
    np.testing.assert_array_equal(whole, np.concatenate(pieces))


def test_labels_and_images_belong_together():
    batch = batches(9, 6)(2)
    assert [k % 3 for k in numbers(batch)] == batch["label"].tolist()
    assert batch["image"].dtype == np.uint8 and batch["label"].dtype == np.int32


@pytest.mark.parametrize("mesh", [(1, 1), (2, 1), (1, 2)])
def test_batches_do_not_depend_on_the_devices(mesh):
    made = batches(50, sharding=sharding(*mesh))
    assert numbers(made(3)) == numbers(batches(50, sharding=sharding(1))(3))
    assert made(3)["image"].sharding.is_equivalent_to(sharding(*mesh), 4)


def test_a_row_is_read_once_though_devices_repeat_it(monkeypatch):
    read = []
    images = MemorySource.images
    monkeypatch.setattr(
        MemorySource, "images", lambda s, i: read.extend(i.tolist()) or images(s, i)
    )
    batch = batches(50, sharding=sharding(1, 2))(0)
    assert len(batch["image"].addressable_shards) == 2 and len(read) == 4


def test_streamed_batches_hold_crops_that_do_not_depend_on_the_devices(stream_config):
    source = open_source(stream_config, "train")
    one, two = (
        Batches(source, stream_config.batch_size, stream_config.seed, sharding(k))
        for k in (1, 2)
    )
    assert one(1)["crops"].shape == (4, 2, 5, 5, 3)
    np.testing.assert_array_equal(one(1)["crops"], two(1)["crops"])
    np.testing.assert_array_equal(one(1)["label"], two(1)["label"])
    order = stream_order(0, 4, 8, len(source))
    expected = source.crops(order, np.arange(4), 1)["crops"]
    np.testing.assert_array_equal(one(1)["crops"], expected)


def test_streamed_labels_are_those_of_the_crops(stream_config):
    batch = Batches(
        open_source(stream_config, "train"),
        stream_config.batch_size,
        stream_config.seed,
        sharding(2),
    )(0)
    brightness = np.asarray(batch["crops"]).mean((1, 2, 3, 4))
    np.testing.assert_array_equal(brightness // 100, batch["label"])


@pytest.fixture
def stream_config(tmp_path):
    from PIL import Image

    for k in range(12):
        (tmp_path / str(k % 2)).mkdir(exist_ok=True)
        noise = np.random.default_rng(k).integers(20, 60, (9, 6 + k, 3), np.uint8)
        image = Image.fromarray(noise + np.uint8(100 * (k % 2)))
        image.save(tmp_path / str(k % 2) / f"{k}.png")
    data = DataConfig(image_size=5)
    return TrainConfig(dataset=f"folder:{tmp_path}", steps=1, batch_size=4, data=data)


def test_iterating_gives_what_calling_gives():
    made = batches()
    iterated = [numbers(batch) for batch in made.iterate(3, 8)]
    assert iterated == [numbers(made(step)) for step in range(3, 8)]
    assert list(made.iterate(3, 3)) == [] and len(list(made.iterate(3, 4))) == 1


def test_error_of_the_thread_is_raised_at_its_batch(monkeypatch):
    made = batches(4)
    good = made(0)

    def fail_at_two(self, step):
        if step == 2:
            raise InputError("bad.png")
        return good

    monkeypatch.setattr(Batches, "__call__", fail_at_two)
    iterator = made.iterate(0, 5)
    next(iterator), next(iterator)
    with pytest.raises(InputError, match="bad.png"):
        next(iterator)


@pytest.mark.parametrize("taken", [0, 1])
def test_closing_ends_the_thread(taken):
    iterator = batches().iterate(0, 1_000_000)
    for _ in range(taken):
        next(iterator)
    iterator.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("batches")]


class ImmediateExecutor:
    def __init__(self, *args, **options):
        pass

    def submit(self, function, step):
        future = Future()
        future.set_result(function(step))
        return future

    def shutdown(self, **options):
        pass


def test_two_batches_are_made_ahead(monkeypatch):
    made, steps = batches(), []
    monkeypatch.setattr(Batches, "__call__", lambda self, step: steps.append(step))
    monkeypatch.setattr(pipeline, "ThreadPoolExecutor", ImmediateExecutor)
    iterator = made.iterate(0, 9)
    next(iterator)
    assert steps == [0, 1, 2]
    next(iterator)
    assert steps == [0, 1, 2, 3]


def test_a_batch_begins_before_the_one_ahead_of_it_is_done(monkeypatch):
    both = threading.Barrier(2, timeout=60)
    made = batches()
    monkeypatch.setattr(Batches, "__call__", lambda self, step: both.wait() * 0 + step)
    assert list(made.iterate(0, 4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("bad", [(1, 2, 7), range(12)])
def test_bad_pictures_are_replaced_alike_by_threads_and_alone(
    stream_config, tmp_path, bad
):
    for k in bad:
        cut = tmp_path / str(k % 2) / f"{k}.png"
        cut.write_bytes(cut.read_bytes()[:-40])
    config = dataclasses.replace(stream_config, on_bad_image="skip")
    alone, ahead = (
        Batches(open_source(config, "train"), 4, 0, sharding(1)) for _ in range(2)
    )
    if len(bad) == 12:
        with pytest.raises(InputError, match="no picture"):
            list(ahead.iterate(0, 6))
        return
    for step, batch in enumerate(ahead.iterate(0, 6)):
        jax.tree.map(np.testing.assert_array_equal, batch, alone(step))


def test_empty_source_is_one_sentence():
    with pytest.raises(InputError, match="is empty"):
        batches(0)


def test_every_example_has_its_place_in_the_batch():
    np.testing.assert_array_equal(batches(9, 6)(2)["position"], np.arange(6))
