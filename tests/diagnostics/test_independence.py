"""Batch independence of other people's functions and Flax modules."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from byol_bnfree.diagnostics import (
    batch_independence,
    gradient_independence,
    numerical_independence,
)
from byol_bnfree.errors import InputError

IMAGES = jax.random.normal(jax.random.key(0), (4, 6, 6, 2))
ROWS = IMAGES[:, 0, :, 0]


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
        (jnp.sin, 3.0, "two or more"),
        (jnp.sin, jax.random.split(jax.random.key(0), 4), "random keys that are no"),
        (jnp.sin, IMAGES.at[0, 0].set(jnp.nan), "images hold NaN or infinity"),
        (jnp.sin, -IMAGES.at[3].set(jnp.inf), "images hold NaN or infinity"),
        (lambda x: (x, "name"), IMAGES, "an output is str, which is no array"),
        (3, IMAGES, "the function is 3, which cannot be called"),
    ],
)
def test_what_is_no_function_of_a_batch_is_refused(function, images, sentence):
    with pytest.raises(InputError, match=sentence):
        batch_independence(function, images)


NORM = nnx.BatchNorm(6, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    "function, sentence",
    [
        (lambda x: NORM(x), "pass the module itself"),
        (lambda x: nn.Dense(3)(x), "module.apply"),
        (nn.Dense, r"Dense is a class.* Dense\(...\)"),
        (nnx.BatchNorm, "BatchNorm is a class"),
        (nn.BatchNorm(False, axis_name="batch"), "axis name: batch; .*axis_name=None"),
        (lambda x: jax.random.split(jax.random.key(0), 4), "key_data"),
        (lambda x: x if x.sum() > 0 else -x, "cannot trace.*where"),
        (lambda x: np.sin(x), "cannot trace.*jax.numpy"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_a_sentence(function, sentence):
    with pytest.raises(InputError, match=sentence) as raised:
        batch_independence(function, ROWS)
    assert "\n" not in str(raised.value) and "https" not in str(raised.value)


def test_a_function_that_stores_arrays_elsewhere_is_refused_in_a_sentence():
    stored = [jnp.zeros(6)]

    def less_the_last(x):
        old, stored[0] = stored[0], x.mean(0)
        return x - old[None]

    with pytest.raises(InputError, match="store no array elsewhere"):
        batch_independence(less_the_last, ROWS)


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


class Growing(nnx.Module):
    """Its first call creates what later calls read."""

    def __init__(self, kept):
        self.kept = kept

    def __call__(self, x):
        if not hasattr(self, "last"):
            self.last = x.mean(0) if self.kept else True
            return x
        y = x - (self.last[None] if self.kept else x.mean(0, keepdims=True))
        self.last = x.mean(0) if self.kept else True
        return y


def test_what_the_first_call_of_an_nnx_module_creates_is_examined():
    report = batch_independence(Growing(kept=True), ROWS)
    assert report.static.verdict == "independent" and not report.holds
    assert report.kept == ("last",)
    module = Growing(kept=False)
    assert batch_independence(module, ROWS).static.verdict == "mixes examples"
    assert not hasattr(module, "last")


def until_large(predicate):
    """A loop for one example, run until `predicate` of it."""
    return lambda x: jax.lax.while_loop(predicate, lambda v: 1.5 * abs(v) + 0.1, x)


def test_a_vmapped_loop_whose_length_is_each_examples_own():
    alone = jax.vmap(until_large(lambda v: v.sum() < 99))
    report = batch_independence(alone, IMAGES)
    assert report.holds and report.static.verdict == "independent"
    # JAX has no gradient of it, but tangents.
    assert np.isnan(report.numerical.cross_derivative)
    assert report.backward.verdict == "independent"
    leaking = gradient_independence(lambda x: alone(leaking_tangent(x)), IMAGES)
    assert leaking.verdict == "mixes examples"


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


def less_the_mean(x):
    return x - x.mean(0, keepdims=True)


@jax.custom_vjp
def leaking_forward(x):
    return x


leaking_forward.defvjp(lambda x: (less_the_mean(x), None), lambda _, g: (g,))


@jax.custom_jvp
def leaking_primal(x):
    return x


@leaking_primal.defjvp
def _(primals, tangents):
    return less_the_mean(primals[0]), tangents[0]


@pytest.mark.parametrize("function", [leaking_forward, leaking_primal])
def test_values_that_only_training_uses_are_examined(function):
    report = batch_independence(function, IMAGES)
    assert report.static.verdict == "independent"
    assert report.backward.verdict == "mixes examples" and not report.holds
    assert "less_the_mean" in report.backward.places[0].source
    numbers = report.numerical
    assert numbers.cross_derivative == 0 < numbers.changed_by_others


@jax.custom_vjp
def scaled(w, h):
    return h * w


scaled.defvjp(
    lambda w, h: (less_the_mean(h) * w, (w, h)),
    lambda saved, g: (jnp.sum(g * saved[1]), g * saved[0]),
)


@jax.custom_jvp
def scaled_tangent(w, h):
    return h * w


@scaled_tangent.defjvp
def _(primals, tangents):
    w, h = primals[0], less_the_mean(primals[1])
    return h * w, h * tangents[0] + w * tangents[1]


def frozen(x):
    return jax.lax.stop_gradient(jnp.sin(x))


def as_tokens(x):
    return jnp.cos((3 * x).astype(int))


class Headed(nn.Module):
    """A head with a weight, after a part that passes no gradient on."""

    stem: Callable
    head: Callable

    @nn.compact
    def __call__(self, x):
        return self.head(self.param("w", nn.initializers.ones, ()), self.stem(x))


def closing_over(head, stem):
    w = jnp.full((2,), 1.5)
    return lambda x: head(w[0], stem(x))


@pytest.mark.parametrize("make", [lambda h, s: Headed(s, h), closing_over])
@pytest.mark.parametrize("stem", [frozen, as_tokens])
@pytest.mark.parametrize("head", [scaled, scaled_tangent])
def test_values_that_only_training_of_the_weights_uses_are_examined(make, stem, head):
    report = batch_independence(make(head, stem), ROWS)
    assert report.static.verdict == "independent" and not report.holds
    assert report.backward.verdict == "mixes examples"
    assert __file__ in report.backward.places[0].source
    assert report.numerical.changed_by_others > 0
    by_weight = lambda x: jax.vjp(lambda w: head(w, stem(x)), 1.5)[0]  # noqa: E731
    assert (by_weight(ROWS)[0] != by_weight(ROWS.at[1:].multiply(-3))[0]).any()


def leaking_without_image_gradients():
    """A product whose forward pass mixes if its second factor has no derivative."""

    @jax.custom_vjp
    def product(w, h):
        return h * w

    def forward(w, h):
        rows = h.value if h.perturbed else less_the_mean(h.value)
        return rows * w.value, (w.value, h.value)

    product.defvjp(
        forward,
        lambda saved, g: (jnp.sum(g * saved[1]), g * saved[0]),
        symbolic_zeros=True,
    )
    return product


@pytest.mark.parametrize("make", [lambda h, s: Headed(s, h), closing_over])
@pytest.mark.parametrize(
    "head, stem",
    [
        (leaking_without_image_gradients(), jnp.sin),
        (scaled, lambda x: no_derivative(x[:, None, :, None] * x[:, :4, None, None])),
    ],
)
def test_values_of_a_derivative_by_the_weights_alone_are_examined(make, head, stem):
    report = batch_independence(make(head, stem), ROWS)
    assert report.static.verdict == "independent" and not report.holds
    assert report.backward.verdict == "mixes examples"
    assert report.numerical.changed_by_others > 0


def test_integer_images_have_no_gradient_but_values_that_only_training_uses():
    tokens = jnp.arange(24).reshape(4, 6) % 9
    table = jnp.cos(jnp.arange(9.0))
    report = gradient_independence(lambda x: scaled(table[0], table[x]), tokens)
    assert report.verdict == "mixes examples"
    report = gradient_independence(lambda x: table[x] * 2, tokens)
    assert report.verdict == "no gradient"


def test_a_weight_without_a_derivative_counts_as_a_constant():
    rotate = jnp.eye(6)
    report = batch_independence(
        lambda x: x @ no_derivative(rotate[None, ..., None])[0], ROWS
    )
    assert report.holds and report.backward.verdict == "independent"


def test_a_backward_rule_that_no_gradient_to_the_images_passes_is_not_proven():
    report = batch_independence(lambda x: leaking_backward(frozen(x)), ROWS)
    assert report.holds and report.backward.verdict == "no gradient"
    table = str(report)
    assert "no gradient reaches the images" in table.splitlines()[-1]
    assert batch_independence(jnp.sin, ROWS).backward.verdict == "independent"


def no_derivative(x):
    return jnp.linalg.svd(x[..., 0])[2]


@pytest.mark.parametrize("function", [leaking_forward, leaking_backward])
def test_an_output_without_a_derivative_hides_no_leak_of_another(function):
    report = batch_independence(
        lambda x: {"a": no_derivative(x[:, :4]), "b": function(x)}, IMAGES
    )
    assert report.backward.verdict == "mixes examples" and not report.holds


def test_without_a_derivative_the_verdict_is_on_the_values():
    both = lambda x: (no_derivative(x[:, :4]), jnp.sin(x))  # noqa: E731
    report = batch_independence(both, IMAGES)
    assert report.holds and report.backward is None
    last = str(report).splitlines()[-1]
    assert "values" in last and "gradients are not proven" in last


class Ordered(nn.Module):
    """A batch in the order of a parameter, which starts as 0, 1, 2, 3."""

    @nn.compact
    def __call__(self, x):
        return x[jnp.argsort(self.param("w", lambda _: jnp.arange(4.0)))]


class OrderedNNX(nnx.Module):
    def __init__(self):
        self.w = nnx.Param(jnp.arange(4.0))

    def __call__(self, x):
        return x[jnp.argsort(self.w[...])]


def rolled_by(key):
    """Roll the batch in one of ten draws; not in that of keys 0 and 1."""
    shift = jax.random.bernoulli(key, 0.1).astype(int)
    return lambda x: jnp.roll(x, shift, 0)


class Rolled(nn.Module):
    @nn.compact
    def __call__(self, x):
        return rolled_by(self.make_rng("order"))(x)


@pytest.mark.parametrize(
    "function, rngs",
    [
        (Ordered(), None),
        (OrderedNNX(), None),
        (Rolled(), {"order": jax.random.key(1)}),
        (lambda x: rolled_by(jax.random.key(0))(x), None),
        (lambda x: rolled_by(jax.random.PRNGKey(0))(x), None),
    ],
)
def test_the_proof_holds_for_all_weights_and_keys(function, rngs):
    report = batch_independence(function, IMAGES, rngs=rngs)
    assert report.numerical.changed_by_others == 0  # for these
    assert report.static.verdict == "not proven" and not report.holds


class MovingAverage(nn.Module):
    """Subtracts the mean of earlier batches."""

    @nn.compact
    def __call__(self, x):
        mean = self.variable("batch_stats", "mean", jnp.zeros, x.shape[1:])
        old = mean.value
        mean.value = 0.9 * old + 0.1 * x.mean(0)
        return x - old[None]


class MovingAverageNNX(nnx.Module):
    def __init__(self):
        self.mean = nnx.BatchStat(jnp.zeros(IMAGES.shape[1:]))

    def __call__(self, x):
        old = self.mean[...]
        self.mean[...] = 0.9 * old + 0.1 * x.mean(0)
        return x - old[None]


class AverageNNX(nnx.Module):
    """Keeps the mean in a variable that is usually a record of one call."""

    def __init__(self):
        self.mean = nnx.Intermediate(jnp.zeros(IMAGES.shape[1:]))

    __call__ = MovingAverageNNX.__call__


@pytest.mark.parametrize("module", [MovingAverage(), MovingAverageNNX(), AverageNNX()])
def test_statistics_kept_for_later_batches_are_found_and_named(module):
    report = batch_independence(module, IMAGES)
    assert report.static.verdict == "independent" and not report.holds
    assert len(report.kept) == 1 and "mean" in report.kept[0]
    assert "earlier batches" in str(report).splitlines()[-1]


class SowingNNX(nnx.Module):
    def __call__(self, x):
        self.sow(nnx.Intermediate, "seen", x)
        return jnp.sin(x)


class Sowing(nn.Module):
    @nn.compact
    def __call__(self, x):
        self.sow("intermediates", "seen", x)
        return jnp.sin(x)


def test_what_a_call_only_sows_is_not_kept():
    module, linen = SowingNNX(), Sowing()
    assert batch_independence(module, IMAGES).holds
    module(IMAGES)  # now it has a record of this call
    assert batch_independence(module, IMAGES).holds
    _, before = linen.apply({}, IMAGES, mutable=["intermediates"])
    assert batch_independence(linen, IMAGES, variables=before).holds


def test_intermediates_of_linen_that_the_next_call_reads_are_kept():
    class Average(nn.Module):
        @nn.compact
        def __call__(self, x):
            mean = self.variable("intermediates", "mean", jnp.zeros, x.shape[1:])
            old, mean.value = mean.value, x.mean(0)
            return x - old[None]

    before = {"intermediates": {"mean": jnp.zeros(IMAGES.shape[1:])}}
    report = batch_independence(Average(), IMAGES, variables=before)
    assert report.kept == ("intermediates/mean",)


def attend(q, k):
    return jax.nn.softmax(q @ k.T) @ k


class Two(nn.Module):
    @nn.compact
    def __call__(self, a, b=None):
        return nn.Dense(3)(a) - b.mean(0)[None, :3]


@pytest.mark.parametrize("function, name", [(attend, "k"), (Two(), "b")])
@pytest.mark.parametrize("other", [ROWS, np.asarray(ROWS), {"tree": ROWS}])
def test_a_second_array_with_a_row_for_each_image_is_refused(function, name, other):
    with pytest.raises(InputError, match="argument 0.* close over it"):
        batch_independence(function, ROWS, other)
    with pytest.raises(InputError, match=f"argument {name}.* one array"):
        batch_independence(function, ROWS, **{name: other})


def test_a_second_input_in_one_array_is_followed_and_a_constant_may_be_given():
    pairs = jnp.stack([ROWS, jnp.cos(ROWS)], 1)
    assert not batch_independence(lambda x: attend(x[:, 0], x[:, 1]), pairs).holds
    assert batch_independence(lambda x: x[:, 0] * x[:, 1], pairs).holds
    assert batch_independence(lambda x, w: x @ w, ROWS, jnp.ones((6, 2))).holds


def test_one_key_serves_all_names():
    report = batch_independence(Dropping(), IMAGES, train=True, rngs=jax.random.key(0))
    assert report.holds


def test_a_module_that_does_not_take_its_variables_is_refused_in_a_sentence():
    params = Net("group").init(jax.random.key(1), IMAGES, True)["params"]
    with pytest.raises(InputError, match="Net cannot use these variables"):
        batch_independence(Net("group"), IMAGES, True, variables=params)


def test_images_may_be_a_list_of_equal_shapes():
    assert batch_independence(jnp.sin, [[1.0, 2.0], [3.0, 4.0]]).holds
    with pytest.raises(InputError, match="stack images of equal size"):
        batch_independence(jnp.sin, [[1.0, 2.0], [3.0]])


def test_numbers_of_every_kind_stand_side_by_side():
    kinds = lambda x: (x, x.argmax(1), x > 0, (x > 0).astype("uint8"))  # noqa: E731
    assert numerical_independence(kinds, IMAGES).cross_derivative == 0
    for wrong in (
        lambda x: (x, (x > x.mean(0)[None])),
        lambda x: (x, x.astype("uint8") + x.sum(0).astype("uint8")[None]),
        lambda x: (x + x.mean(0)[None], x > 0),
    ):
        assert not numerical_independence(wrong, IMAGES).holds


def test_a_function_that_refuses_a_batch_of_one_is_not_measured_alone():
    def two_or_more(x):
        assert len(x) > 1
        return x

    report = numerical_independence(two_or_more, IMAGES)
    assert report.alone is None and report.holds


@pytest.mark.parametrize("dtype, holds", [("bfloat16", True), ("float32", False)])
def test_a_batch_of_one_may_round_as_its_dtype_does(dtype, holds):
    def rounds(x):
        return (x.astype(dtype) * (1 + 0.01 * (len(x) == 1))).astype("float32")

    assert numerical_independence(rounds, IMAGES).holds is holds


def test_a_large_batch_is_measured_on_some_rows_and_the_report_says_so():
    images = jax.random.normal(jax.random.key(0), (40, 2))
    report = batch_independence(less_the_mean, images)
    assert report.numerical.unexamined == 8 and not report.numerical.holds
    assert "leave out 8 rows" in str(report)


def test_an_operation_without_a_rule_is_not_proven():
    def on_host(x):
        return jax.pure_callback(lambda a: a, x, x)

    assert batch_independence(on_host, IMAGES).static.verdict == "not proven"


def test_the_report_prints_which_part_failed_and_why():
    table = str(batch_independence(lambda x: x - x.mean(0, keepdims=True), IMAGES))
    lines = table.splitlines()
    assert len(lines) == 7
    assert [line.count("FAILS") for line in lines] == [1, 1, 1, 1, 1, 0, 0]
    assert "reduce_sum" in lines[3] and "test_independence.py" in lines[3]
    assert "NOT" in lines[6]
    assert "FAILS" not in str(batch_independence(jnp.sin, IMAGES))
