"""Encoders and work folders of untrained networks, without training."""

import dataclasses
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byol_bnfree.assembly import create_network
from byol_bnfree.config import DataConfig, HeadConfig, ModelConfig, TrainConfig
from byol_bnfree.encoder import Encoder, encoder_module
from byol_bnfree.interop.work_folder import write_work_folder

HEAD = HeadConfig(hidden=16, out=8)
MODEL = ModelConfig(name="resnet8", projector=HEAD, predictor=HEAD)
CLASSES, SIZE = 3, 16


def config(norm: str = "gn_ws", **model) -> TrainConfig:
    """For pictures of 16 pixels."""
    return TrainConfig(
        norm=norm,
        model=dataclasses.replace(MODEL, **model),
        data=DataConfig(image_size=SIZE, channels=3),
    )


def drawn(shapes, seed: int = 0):
    """Random arrays: kernels around zero, the rest positive, counts of three."""
    draws = np.random.default_rng(seed)

    def draw(leaf):
        if leaf.dtype == jnp.int32:
            return jnp.int32(3)
        if len(leaf.shape) > 1:
            scale = 1 / np.sqrt(np.prod(leaf.shape[:-1]))
            return jnp.asarray(draws.normal(size=leaf.shape) * scale, jnp.float32)
        return jnp.asarray(draws.uniform(0.2, 0.6, leaf.shape), jnp.float32)

    return jax.tree.map(draw, shapes)


@functools.cache
def encoder(cfg: TrainConfig) -> Encoder:
    """An encoder of random weights."""
    module, size = encoder_module(cfg), cfg.data.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)
    return Encoder(module, drawn(shapes), cfg, 5)


def work_folder(folder: Path, cfg: TrainConfig) -> dict:
    """A work folder of random networks; returns its fields of a state."""
    network = create_network(cfg, CLASSES)
    images = jax.ShapeDtypeStruct((2, SIZE, SIZE, 3), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    fields = drawn(shapes)._asdict()
    write_work_folder(
        folder,
        cfg,
        fields,
        step=5,
        num_classes=CLASSES,
        examples=48,
        source="random. apache-2.0",
    )
    return fields


@functools.cache  # importing PyTorch takes seconds
def torch_python(*needed: str) -> str:
    """A Python with torch: TORCH_PYTHON, or this one; skips without."""
    python = os.environ.get("TORCH_PYTHON", sys.executable)
    assert shutil.which(python), python
    program = f"import {', '.join(('torch', *needed))}"
    if subprocess.run([python, "-c", program], capture_output=True).returncode:
        pytest.skip(f"{python} cannot {program}")
    return python
