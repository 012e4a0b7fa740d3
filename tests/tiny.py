"""The smallest run that has every part: two blocks, 8x8 images, a batch of 8."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byol_bnfree.assembly import create_network
from byol_bnfree.config import HeadConfig, ModelConfig, OptimConfig, TrainConfig
from byol_bnfree.data.sources import MemorySource
from byol_bnfree.encoder import Encoder
from byol_bnfree.models.architectures import Architecture
from byol_bnfree.models.byol import BYOLNetwork
from byol_bnfree.models.norm import NORMS, layers_for
from byol_bnfree.models.resnet import ResNet
from byol_bnfree.settings.norms import groups_of_micro_batch, part_norms
from byol_bnfree.training.mesh import (
    batch_sharding,
    make_mesh,
    replicated,
    state_shardings,
)
from byol_bnfree.training.optim import constant_predictor_rate, make_optimizer
from byol_bnfree.training.parts import first_memory
from byol_bnfree.training.program import views_together
from byol_bnfree.training.schedules import tau_schedule
from byol_bnfree.training.state import TrainState, create_state
from byol_bnfree.training.step import Schedules, make_train_step

HEAD = HeadConfig(hidden=16, out=8)
CLASSES = 3


def norms(*quick: str) -> list:
    """All norms as parameters of a test. It is slow for all but the quick ones."""
    return [
        norm if norm in quick else pytest.param(norm, marks=pytest.mark.slow)
        for norm in NORMS
    ]


def config(**fields) -> TrainConfig:
    """A configuration of 10 steps; keyword arguments replace fields."""
    base = TrainConfig(
        batch_size=8,
        steps=10,
        model=ModelConfig(name="resnet14", projector=HEAD, predictor=HEAD),
        optim=OptimConfig(
            warmup_epochs=0, tau_base=0.9, weight_decay=1e-3, trust_coefficient=1e-3
        ),
    )
    return dataclasses.replace(base, **fields)


def network(cfg: TrainConfig, views: int = 1) -> BYOLNetwork:
    """The network of `cfg` with an encoder of two blocks."""
    groups = groups_of_micro_batch(cfg)
    full = create_network(cfg, CLASSES, groups, views=views)
    encoder = ResNet(
        Architecture((1, 1), (8, 16), False, 8),
        layers_for(part_norms(cfg)["encoder"], stat_groups=groups, views=views),
        stem="small",
    )
    return dataclasses.replace(full, encoder=encoder)


def batch(size: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """Random images and labels."""
    draws = np.random.default_rng(seed)
    return {
        "image": draws.integers(0, 256, (size, 8, 8, 3), dtype=np.uint8),
        "label": draws.integers(0, CLASSES, size).astype(np.int32),
        "position": np.arange(size, dtype=np.int32),
    }


@functools.cache
def encoder(norm: str) -> Encoder:
    """The untrained encoder of `network`, for 8x8 images."""
    cfg = config(norm=norm)
    module = network(cfg).encoder
    init = jax.jit(functools.partial(module.init, train=False))
    return Encoder(module, init(jax.random.key(1), jnp.zeros((2, 8, 8, 3))), cfg, 0)


def light(split: str = "train", n: int = 48) -> MemorySource:
    """A bright and a dark class of 8x8 noise, which a mean tells apart."""
    draws = np.random.default_rng(len(split))
    labels = (np.arange(n) % 2).astype(np.int32)
    pixels = draws.integers(0, 60, (n, 8, 8, 3)) + 150 * labels[:, None, None, None]
    return MemorySource("light", split, ("a", "b"), pixels.astype(np.uint8), labels, {})


def start(cfg: TrainConfig, rate: float = 0.5, data_devices: int = 1):
    """State of step 0 and the step function, not jitted."""
    optimizer = make_optimizer(
        cfg.optim, lambda step: rate, constant_predictor_rate(cfg)
    )
    schedules = Schedules(lambda step: rate, tau_schedule(cfg.optim.tau_base, 10))
    step = make_train_step(
        network(cfg, views_together(cfg, unroll=False)),
        optimizer,
        schedules,
        cfg,
        data_devices=data_devices,
        unroll=False,
    )
    plain = network(dataclasses.replace(cfg, bn_stat_groups=1, micro_batches=1))
    images = jnp.zeros((2, 8, 8, 3))
    state = create_state(
        jax.jit(plain.init)(jax.random.key(1), images),
        optimizer,
        first_memory(cfg, jax.random.key(2)),
    )
    return state, step


@functools.cache  # compiling is what tests spend their time on
def run(cfg: TrainConfig) -> tuple[TrainState, list]:
    """State and losses after two steps on one device."""
    state, step = start(cfg)
    step, losses = jax.jit(step), []
    for index in range(2):
        state, metrics, _ = step(state, batch(cfg.batch_size, seed=index))
        losses.append(metrics["train/loss"])
    return state, losses


def run_on_two_devices(cfg: TrainConfig, shard_state: bool = False):
    """State and losses after the same two steps on two devices."""
    mesh = make_mesh()
    state, step = start(cfg, data_devices=2)
    layout = state_shardings(jax.eval_shape(lambda: state), mesh, shard_state)
    step = jax.jit(
        step,
        in_shardings=(layout, batch_sharding(mesh)),
        out_shardings=(layout, replicated(mesh), batch_sharding(mesh)),
    )
    state, losses = jax.device_put(state, layout), []
    for index in range(2):
        state, metrics, _ = step(state, batch(cfg.batch_size, seed=index))
        losses.append(metrics["train/loss"])
    return state, losses


def assert_close(a, b, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Two trees agree to rounding, leaf by leaf."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(
        jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol, err_msg=name)
