"""Batch independence of other people's functions and Flax modules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from byol_bnfree.diagnostics import batch_independence, numerical_independence
from byol_bnfree.errors import InputError

IMAGES = jax.random.normal(jax.random.key(0), (4, 6, 6, 2))


class Net(nn.Module):
    """Somebody else's network."""

    norm: str

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(4, (3, 3))(x)
        if self.norm == "batch":
            x = nn.BatchNorm(use_running_average=not train)(x)
        else:
            x = nn.GroupNorm(2)(x)
        return nn.relu(x).mean((1, 2))


@pytest.mark.parametrize(
    "norm, train, independent",
    [("group", True, True), ("batch", True, False), ("batch", False, True)],
)
def test_flax_modules(norm, train, independent):
    report = batch_independence(Net(norm), IMAGES, train)
    assert report.holds == independent
    assert report.numerical.holds == independent
    assert (report.static.verdict == "independent") == independent


def test_a_module_may_bring_its_variables():
    variables = Net("group").init(jax.random.key(1), IMAGES, True)
    report = batch_independence(Net("group"), IMAGES, True, variables=variables)
    assert report.numerical.cross_derivative == 0


def test_a_function_without_a_derivative_is_not_proven():
    def on_host(x):
        return jax.pure_callback(lambda a: a, x, x)

    assert not batch_independence(on_host, IMAGES).holds


def test_an_operation_whose_derivative_jax_lacks_is_no_error():
    full = lambda x: jnp.linalg.svd(x[:, :4, :, 0])[2]  # noqa: E731
    report = numerical_independence(full, IMAGES)
    assert np.isnan(report.cross_derivative) and report.changed_by_others == 0


def test_a_derivative_that_is_nan_proves_nothing():
    report = numerical_independence(jnp.sqrt, jnp.zeros((3, 2)))
    assert report.cross_derivative == np.inf and not report.holds


def test_images_in_bfloat16_are_changed_in_bfloat16():
    report = numerical_independence(lambda x: x * 1.7, IMAGES.astype(jnp.bfloat16))
    assert report.changed_by_others == 0 and report.holds


LEAKS = {
    "cross_derivative": lambda x: x + 1e-6 * x.mean(0)[None],
    "changed_by_others": lambda x: x + jnp.sign(x.sum(0))[None],
    "alone": lambda x: x * len(x),
}


@pytest.mark.parametrize("measure", LEAKS)
def test_each_measure_sees_its_leak(measure):
    report = numerical_independence(LEAKS[measure], IMAGES)
    assert getattr(report, measure) > 0 and not report.holds


@pytest.mark.parametrize(
    "function, images, sentence",
    [
        (jnp.sin, IMAGES[:1], "two or more"),
        (lambda x: x.mean(0), IMAGES, "no row for each"),
        (lambda x: {"loss": x.sum()}, IMAGES, "no row for each"),
        (lambda x: None, IMAGES, "returns no array"),
    ],
)
def test_what_is_no_function_of_a_batch_is_refused(function, images, sentence):
    with pytest.raises(InputError, match=sentence):
        batch_independence(function, images)


class Dropping(nn.Module):
    """Dropout, and `train` by keyword only."""

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dropout(0.5, deterministic=not train)(nn.Dense(4)(x))


@pytest.mark.parametrize("train", [False, True])
def test_linen_modules_with_dropout_and_keywords(train):
    rngs = {"dropout": jax.random.key(0)}
    report = batch_independence(Dropping(), IMAGES, train=train, rngs=rngs)
    assert report.holds
    assert (report.numerical.alone is None) == train  # another batch draws others


def test_a_module_that_draws_without_rngs_is_refused_in_a_sentence():
    with pytest.raises(InputError, match="Dropping draws random numbers; give rngs"):
        batch_independence(Dropping(), IMAGES, train=True)
    with pytest.raises(InputError, match="belong to a Linen module"):
        batch_independence(jnp.sin, IMAGES, rngs={"dropout": jax.random.key(0)})


class Theirs(nnx.Module):
    """An NNX network with statistics and random numbers of its own."""

    def __init__(self, norm):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(2, 4, (3, 3), rngs=rngs)
        self.norm = norm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(self.conv(x)))


@pytest.mark.parametrize(
    "norm, training, independent",
    [
        (nnx.BatchNorm, True, False),
        (nnx.BatchNorm, False, True),
        (lambda *a, **k: nnx.GroupNorm(*a, num_groups=2, **k), True, True),
    ],
)
def test_nnx_modules(norm, training, independent):
    module = Theirs(norm)
    module.train() if training else module.eval()
    before = jax.device_get(nnx.state(module, nnx.Not(nnx.RngState)))
    report = batch_independence(module, IMAGES)
    assert report.holds == independent
    assert (report.static.verdict == "independent") == independent
    jax.tree.map(
        np.testing.assert_array_equal,
        before,
        jax.device_get(nnx.state(module, nnx.Not(nnx.RngState))),
    )


def until_large(predicate):
    """A loop for one example, run until `predicate` of it."""
    return lambda x: jax.lax.while_loop(predicate, lambda v: 1.5 * abs(v) + 0.1, x)


def test_a_vmapped_loop_whose_length_is_each_examples_own():
    report = batch_independence(jax.vmap(until_large(lambda v: v.sum() < 99)), IMAGES)
    assert report.holds and report.static.verdict == "independent"
    assert report.backward is None  # JAX has no derivative of it


def test_a_loop_whose_length_all_examples_decide_is_found():
    report = batch_independence(until_large(lambda v: v.sum() < 9999), IMAGES)
    assert not report.holds and report.static.verdict == "mixes examples"


@jax.custom_vjp
def leaking_backward(x):
    return 2 * x


leaking_backward.defvjp(
    lambda x: (2 * x, None), lambda _, g: (g + g.mean(0, keepdims=True),)
)


@jax.custom_jvp
def leaking_tangent(x):
    return 2 * x


@leaking_tangent.defjvp
def _(primals, tangents):
    (t,) = tangents
    return 2 * primals[0], 2 * t + t.mean(0, keepdims=True)


@pytest.mark.parametrize("function", [leaking_backward, leaking_tangent])
def test_a_derivative_rule_that_leaks_is_found_in_the_program(function):
    report = batch_independence(function, IMAGES)
    assert report.static.verdict == "independent"
    assert report.backward.verdict == "mixes examples" and not report.holds


def test_an_operation_without_a_rule_is_not_proven():
    def on_host(x):
        return jax.pure_callback(lambda a: a, x, x)

    assert batch_independence(on_host, IMAGES).static.verdict == "not proven"


def test_the_report_prints_which_part_failed_and_why():
    table = str(batch_independence(lambda x: x - x.mean(0, keepdims=True), IMAGES))
    lines = table.splitlines()
    assert len(lines) == 6
    assert [line.count("FAILS") for line in lines] == [1, 1, 1, 1, 1, 0]
    assert "reduce_sum" in lines[3] and "test_independence.py" in lines[3]
    assert "NOT" in lines[5]
    assert "FAILS" not in str(batch_independence(jnp.sin, IMAGES))
