"""The functions of a program: all seeds share them, and few views are drawn."""

import jax
import numpy as np
import pytest

import tiny
from byol_bnfree.training.figures import PICTURES
from byol_bnfree.training.parts import DataShape, views_of_step_0
from byol_bnfree.training.program import build_program

DATA = DataShape(16, tiny.CLASSES, (8, 8, 3))


def program(seed, **fields):
    return build_program(tiny.config(seed=seed, norm="gn_ws", **fields), DATA)


@pytest.mark.parametrize("fields", [{}, {"objective": "rotation"}])
def test_the_programs_of_two_seeds_are_one(fields):
    """The text decides: equal programs have one entry in the compilation cache."""
    first, second = program(0, **fields), program(1, **fields)
    batch = jax.tree.map(np.asarray, tiny.batch(8))
    for name in ("init", "views"):
        a, b = (getattr(p, name).lower(batch) for p in (first, second))
        assert a.as_text() == b.as_text(), name
    steps = [p.step.lower(p.abstract_state, batch).as_text() for p in (first, second)]
    assert steps[0] == steps[1]


def test_the_seed_still_decides_weights_and_views():
    batch = tiny.batch(8)
    first, again, other = program(0), program(0), program(1)
    for name in ("init", "views"):
        a, b, c = (
            np.concatenate([np.ravel(x) for x in jax.tree.leaves(made(batch))])
            for made in (getattr(p, name) for p in (first, again, other))
        )
        assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_the_views_of_a_picture_are_the_first_of_the_batch():
    """No more are drawn, because all of them lie on every device."""
    config = tiny.config(batch_size=16, norm="gn_ws")
    batch = jax.tree.map(np.asarray, tiny.batch(16))
    whole = jax.jit(views_of_step_0(config))(batch, jax.random.key(config.seed))
    for few, view in zip(build_program(config, DATA).views(batch), whole, strict=True):
        assert few.shape == (PICTURES, *view.shape[1:])
        np.testing.assert_allclose(few, view[:PICTURES], rtol=1e-5, atol=1e-6)
