"""Batch independence of other people's functions and Flax modules."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

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
    ],
)
def test_what_is_no_function_of_a_batch_is_refused(function, images, sentence):
    with pytest.raises(InputError, match=sentence):
        batch_independence(function, images)
