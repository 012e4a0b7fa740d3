"""A run of any objective goes on from a checkpoint to the last bit."""

import dataclasses

import jax
import numpy as np
import pytest
from test_steps_of_objectives import KINDS, config

import tiny
from byol_bnfree.config import TrainConfig
from byol_bnfree.training.changes import compare_config, with_later_settings
from byol_bnfree.training.checkpoint import Checkpoints


@pytest.mark.parametrize(
    "kind",
    [
        kind if kind == "moco_v2" else pytest.param(kind, marks=pytest.mark.slow)
        for kind in KINDS
    ],
)
def test_a_restored_run_equals_an_uninterrupted_one(kind, tmp_path):
    """State of step 1 saved, restored and stepped: the queue and both rates with it."""
    cfg = config(kind)
    state, step = tiny.start(cfg)
    step = jax.jit(step)
    one, *_ = step(state, tiny.batch(cfg.batch_size, seed=0))
    whole, *_ = step(one, tiny.batch(cfg.batch_size, seed=1))
    saved = Checkpoints(tmp_path, keep=1)
    saved.save(1, one)
    saved.close()
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), one
    )
    again = Checkpoints(tmp_path, keep=1)
    restored, _ = again.restore(abstract)
    again.close()
    assert ("queue" in restored.memory) == (kind == "moco_v2")
    resumed, *_ = step(restored, tiny.batch(cfg.batch_size, seed=1))
    for a, b in zip(jax.tree.leaves(resumed), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_from_before_there_were_objectives_is_resumed_as_byol():
    """A setting that its config.json lacks has the default, and no other value."""
    now = dataclasses.asdict(TrainConfig())
    old = {k: v for k, v in now.items() if k not in ("objective", "infonce")}
    old["optim"] = {k: v for k, v in old["optim"].items() if k != "projector_lr_scale"}
    known = with_later_settings(old, now)
    assert compare_config(known, now, frozenset()) == []
    other = dataclasses.asdict(TrainConfig(objective="simsiam"))
    assert compare_config(known, other, frozenset()) == ["objective: byol -> simsiam"]
