"""The functions of a program: all seeds share them, and few views are drawn."""

import inspect

import jax
import numpy as np
import pytest

import tiny
from byol_bnfree.errors import InputError
from byol_bnfree.training.figures import PICTURES
from byol_bnfree.training.parts import DataShape, build_parts, views_of_step_0
from byol_bnfree.training.program import build_program
from byol_bnfree.training.step import make_train_step

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


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 0), (32, 32, 3.0), ()])
def test_images_have_height_width_and_channels(shape):
    with pytest.raises(
        InputError, match=r"image_shape is .*; give \(height, width, ch"
    ):
        inspect.unwrap(build_parts)(tiny.config(), DataShape(100, 3, shape))


@pytest.mark.parametrize("examples", [0, -5, None, 10.0, True, "100"])
def test_the_number_of_examples_is_a_positive_whole_one(examples):
    data = DataShape._make((examples, 3, (16, 16, 3)))
    with pytest.raises(InputError, match="num_examples is .*; give a positive whole n"):
        inspect.unwrap(build_parts)(tiny.config(steps=2), data)


@pytest.mark.parametrize("classes", [-1, 10.0, True, "10", ("cat", "dog")])
def test_the_number_of_classes_is_a_whole_one_or_none(classes):
    data = DataShape._make((100, classes, (16, 16, 3)))
    with pytest.raises(InputError, match="num_classes is .*; give a whole number, or"):
        inspect.unwrap(build_parts)(tiny.config(), data)


def test_a_step_is_built_of_a_network_and_schedules():
    parts = build_parts(tiny.config(), DataShape(100, 3, (16, 16, 3)))
    network, optimizer, schedules = parts.network, parts.optimizer, parts.schedules
    for given, name in (
        ((network, schedules, optimizer), "schedules"),
        ((optimizer, optimizer, schedules), "network"),
        ((network, optimizer, None), "schedules"),
    ):
        with pytest.raises(InputError, match=f"{name} is of type"):
            inspect.unwrap(make_train_step)(*given, tiny.config())
