"""Optimizer and moving average treat every kind of tree as they treat dicts."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import freeze

from byol_bnfree.config import OptimConfig
from byol_bnfree.errors import InputError
from byol_bnfree.training.ema import ema_update
from byol_bnfree.training.optim import make_optimizer


def draw(seed):
    """Parameters of two parts, in plain dicts; layers in a list have numbers."""
    shapes = {
        "encoder": {
            "conv": {"kernel": (3, 3, 2, 4)},
            "norm1": {"bias": (4,), "scale": (4,)},
            "query": {"kernel": (4, 2, 2)},
        },
        "predictor": {"0": {"kernel": (6, 4), "bias": (4,)}},
    }
    return jax.tree.map(
        lambda shape: jax.random.normal(jax.random.key(seed + sum(shape)), shape),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def boxed(tree):
    """As `nnx.state(model, nnx.Param)`."""
    return nnx.State(jax.tree.map(nnx.Param, tree))


def listed(tree):
    """With the layers of the predictor in a list."""
    return tree | {"predictor": list(tree["predictor"].values())}


KINDS = {"FrozenDict": freeze, "nnx.State": boxed, "list": listed}


def assert_equal(found, expected, kind):
    """Same kind of tree, same bits."""
    assert jax.tree.structure(found) == jax.tree.structure(kind(expected))
    leaves = jax.tree.leaves(kind(expected))
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(found), leaves)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("name", ["lars", "sgd", "adamw", "muon"])
def test_a_tree_of_any_kind_is_updated_as_plain_dicts(name, kind):
    optim = OptimConfig(
        name=name, weight_decay=0.1, bias_lr_scale=0.5, predictor_lr_scale=3.0
    )
    optimizer = make_optimizer(optim, optax.constant_schedule(0.1), 0.3)

    @jax.jit
    def updated(params, grads):
        return optimizer.update(grads, optimizer.init(params), params)[0]

    params, grads = draw(0), draw(1)
    found = updated(kind(params), kind(grads))
    assert_equal(found, updated(params, grads), kind)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_average_of_any_tree_is_that_of_plain_dicts(kind):
    target, online = draw(0), draw(1)
    expected = ema_update(target, online, 0.9)
    assert_equal(ema_update(kind(target), kind(online), 0.9), expected, kind)


@pytest.mark.parametrize("kind", [dict, freeze, boxed])
def test_the_average_leaves_out_parts_that_the_target_does_not_have(kind):
    target, online = {"encoder": draw(0)["encoder"]}, draw(1)
    expected = ema_update(target, online, 0.9)
    assert_equal(ema_update(kind(target), kind(online), 0.9), expected, kind)


def test_the_average_takes_lists_and_single_arrays():
    one, zero = jnp.ones(2), jnp.zeros(2)
    np.testing.assert_allclose(ema_update([one], [zero], 0.75)[0], 0.75)
    np.testing.assert_allclose(ema_update(one, zero, 0.75), 0.75)


def test_the_average_names_an_array_that_one_network_lacks():
    target, online = draw(0), draw(1)
    del online["encoder"]["norm1"]["scale"]
    with pytest.raises(InputError, match="target .* 'encoder/norm1/scale' .* online"):
        ema_update(target, online, 0.9)
    with pytest.raises(InputError, match="online .* 'encoder/norm1/scale' .* target"):
        ema_update(online, target, 0.9)


@pytest.mark.parametrize("empty", [{}, {"encoder": {}}, None, ()])
def test_the_average_of_no_array_is_refused(empty):
    for online in (draw(1), empty):
        with pytest.raises(InputError, match="target parameters hold no array; give"):
            ema_update(empty, online, 0.9)


def test_the_average_takes_a_constant_of_a_compiled_function():
    tau, target, online = jnp.float32(0.9), draw(0), draw(1)
    found = jax.jit(lambda x, y: ema_update(x, y, tau))(target, online)
    jax.tree.map(
        partial(np.testing.assert_allclose, atol=1e-6),
        found,
        ema_update(target, online, 0.9),
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("tau", [0.9, jnp.float32(0.9)])
def test_the_average_keeps_the_dtype(dtype, tau):
    one, zero = jnp.ones(3, dtype), jnp.zeros(3, dtype)
    assert ema_update({"a": one}, {"a": zero}, tau)["a"].dtype == dtype


def test_the_average_refuses_arrays_that_have_none():
    with pytest.raises(InputError, match=r"'a' has shape \(4, 8\) .* \(1, 8\)"):
        ema_update({"a": jnp.ones((4, 8))}, {"a": jnp.ones((1, 8))}, 0.9)
    for tau in (1.5, -0.1, float("nan"), "0.9", jnp.ones(3), np.array([0.9])):
        with pytest.raises(InputError, match="tau is .*; give one number from 0 to 1"):
            inspect.unwrap(ema_update)(draw(0), draw(1), tau)
    with pytest.raises(InputError, match="tau is .*; give one number"):
        jax.jit(ema_update)(draw(0), draw(1), jnp.ones(3))
    dropout = nnx.state(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
    with pytest.raises(InputError, match="'rngs/count/value' .* uint32.*nnx.Param"):
        ema_update(dropout, dropout, 0.9)


def test_an_optimizer_of_nnx_spares_biases_and_norms_from_decay():
    model = nnx.Sequential(nnx.Linear(3, 3, rngs=nnx.Rngs(0)))
    model.norm1 = nnx.LayerNorm(3, rngs=nnx.Rngs(0))
    before = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    optim = OptimConfig(name="sgd", weight_decay=0.1)
    rate = optax.constant_schedule(1.0)
    optimizer = nnx.Optimizer(model, make_optimizer(optim, rate), wrt=nnx.Param)
    zeros = jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param))
    optimizer.update(model, zeros)
    after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    np.testing.assert_array_equal(after["norm1"]["scale"], before["norm1"]["scale"])
    kernel = before["layers"][0]["kernel"]
    np.testing.assert_allclose(after["layers"][0]["kernel"], 0.9 * kernel, rtol=1e-6)


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw", "muon"])
def test_a_weight_of_pytorch_is_updated_as_the_kernel_that_it_is(name):
    """A weight is [out, in, ...], a kernel is [..., in, out]."""
    optim = OptimConfig(name=name, weight_decay=0.1)
    optimizer = make_optimizer(optim, optax.constant_schedule(0.1))

    def updated(params, grads):
        return optimizer.update(grads, optimizer.init(params), params)[0]

    for shape in ((6, 4), (3, 3, 2, 4)):
        kernel, grad = (jax.random.normal(jax.random.key(i), shape) for i in (0, 1))
        expected = updated({"fc": {"kernel": kernel}}, {"fc": {"kernel": grad}})
        weight, theirs = (jnp.moveaxis(x, (-1, -2), (0, 1)) for x in (kernel, grad))
        found = updated({"fc": {"weight": weight}}, {"fc": {"weight": theirs}})
        found = jnp.moveaxis(found["fc"]["weight"], (0, 1), (-1, -2))
        np.testing.assert_allclose(found, expected["fc"]["kernel"], rtol=1e-3)


def test_an_optimizer_of_another_name_is_refused_in_a_sentence():
    with pytest.raises(InputError, match="optim.name is 'adam'.* lars, sgd, adamw"):
        make_optimizer(OptimConfig(name="adam"), optax.constant_schedule(0.1))
