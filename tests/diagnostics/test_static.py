"""The static analysis finds every leak, names its line, and never proves too much."""

import inspect

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from byol_bnfree.diagnostics import (
    carried_over,
    gradient_independence,
    static_independence,
    step_places,
)
from byol_bnfree.diagnostics.dataflow import control
from byol_bnfree.errors import InputError
from byol_bnfree.models.norm import NORMS

KEY = jax.random.key(0)
EYE = jnp.eye(4, dtype=bool)
IMAGES = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))


def forward(norm, leak=None):
    """Predictions of a tiny network, a leak in the middle if there is one."""
    network = tiny.network(tiny.config(norm=norm))
    shapes = jax.eval_shape(network.init, jax.random.key(1), IMAGES)
    variables = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), shapes)
    if leak is None:
        params, stats = variables.online_params, variables.online_stats
        return lambda x: network.online(params, stats, x, True)[0]
    params = {"params": variables.online_params["encoder"]}
    encode = network.encoder.apply
    head = {"params": variables.online_params["projector"]}
    return lambda x: network.projector.apply(head, leak(encode(params, x, True)), True)


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "bn"])
def test_networks_without_batch_statistics_are_proven_independent(norm):
    report = static_independence(forward(norm), IMAGES)
    assert (report.verdict, report.places) == ("independent", ())


def test_batchnorm_is_found_and_its_line_is_named():
    report = static_independence(forward("bn"), IMAGES)
    assert report.verdict == "mixes examples"
    assert report.places[0].primitive == "reduce_sum"
    assert "models/kernels.py" in report.places[0].source
    assert "_moments" in report.places[0].source


def into_space(y):
    """The batch as the axis of a window."""
    merged = y.reshape(1, -1, 1)
    return jax.lax.reduce_window(
        merged, 0.0, jax.lax.add, (1, 2, 1), (1, 1, 1), "SAME"
    ).reshape(y.shape)


LEAKS = {
    "mean": lambda y: y - y.mean(0)[None],
    "sort": lambda y: jnp.sort(y, 0),
    "roll": lambda y: y + jnp.roll(y, 1, 0),
    "pure roll": lambda y: jnp.roll(y, 1, 0),
    "softmax": lambda y: y * jax.nn.softmax(y, 0),
    "flip": lambda y: y[::-1],
    "first row": lambda y: y - y[:1],
    "constant order": lambda y: y[np.array([1, 0, 3, 2])],
    "another's argmax": lambda y: jnp.take_along_axis(
        y, jnp.argmax(y[::-1], 1, keepdims=True) + jnp.arange(16)[None] * 0, 1
    ),
    "argmax": lambda y: y + y[jnp.argmax(y[:, 0])][None],
    "sum of those before": lambda y: jnp.cumsum(y, 0),
    "gram matrix": lambda y: y @ y.T @ y,
    "write": lambda y: y.at[1].add(y[2]),
    "scan": lambda y: jax.lax.scan(lambda c, r: (c + r, c + r), y[0] * 0, y)[1],
    "branch": lambda y: jax.lax.cond(y[0, 0] > 0, jnp.sin, jnp.cos, y),
    "while": lambda y: jax.lax.while_loop(lambda c: c[0, 0] < 9, lambda c: c + 1, y),
    "into space": into_space,
    "linear solve": lambda y: jax.lax.custom_linear_solve(
        lambda v: v, y, lambda _, b: b - b.mean(0)[None], symmetric=True
    ),
    "padded to another's row": lambda y: y + jnp.pad(y[:1], ((1, 2), (0, 0))),
    "padded between rows": lambda y: (
        y + jax.lax.pad(y[:2], 0.0, ((0, 1, 1), (0, 0, 0)))
    ),
    "padding of an example": lambda y: (
        y + jnp.pad(y[:1], ((0, 3), (0, 0)), constant_values=y[0, 0])
    ),
    "chosen by a mask": lambda y: jnp.where(jnp.arange(4)[:, None] == 2, y, y[:1]),
    "cut to another's row": lambda y: y + jax.lax.pad(y, 0.0, ((-1, 1, 0), (0, 0, 0))),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_planted_leak_is_found_and_its_line_named(name):
    report = static_independence(forward("gn_ws", LEAKS[name]), IMAGES)
    assert report.verdict == "mixes examples"
    lines, first = inspect.getsourcelines(LEAKS[name])
    file, line = report.places[0].source.split(" ")[0].split(":")[:2]
    assert file == __file__
    assert first <= int(line) < first + len(lines)


@pytest.mark.parametrize("wanted", ["pure_callback", "gather", "scatter"])
def test_what_cannot_be_judged_is_never_proven(wanted):
    leaks = {
        "pure_callback": lambda y: jax.pure_callback(lambda a: a, y, y),
        "gather": lambda y: y[(y[:, 0] > 0).astype(int) + jnp.arange(4) // 2],
        "scatter": lambda y: (0 * y).at[(y[:, 0] > 0).astype(int)].set(y),
    }
    report = static_independence(forward("gn_ws", leaks[wanted]), IMAGES)
    assert report.verdict == "not proven"
    assert report.places[0].primitive == wanted
    reason = "no rule" if wanted == "pure_callback" else "index known only at run time"
    assert str(report).endswith(f"({reason})")


def test_a_mutable_array_is_not_judged():
    def through_memory(x):
        memory = jax.new_ref(jnp.zeros_like(x))
        memory[...] = x + x.mean(0)[None]
        return memory[...]

    assert static_independence(through_memory, IMAGES).verdict != "independent"


@jax.custom_batching.custom_vmap
def doubled(x):
    return 2 * x


doubled.def_vmap(lambda _, batched, x: (2 * x, batched[0]))


def rows_and(column):
    """Indices of one number in each row, of a batch of four."""
    return jnp.arange(4), column


def alone(x):
    """An image or a few, with a gradient that needs all of it."""
    return jnp.sin(x) * x.sum()


IN_PARTS = {
    "row by row": lambda x: jnp.stack([alone(x[i]) for i in range(4)]),
    "each row": lambda x: jnp.stack([alone(row) for row in x]),
    "batches of one": lambda x: jnp.concatenate(
        [alone(x[i : i + 1]) for i in range(4)]
    ),
    "a remainder of one": lambda x: jax.lax.map(alone, x, batch_size=3),
    "the first alone": lambda x: jnp.concatenate([alone(x[:1]), jnp.cos(x[1:])]),
    "two patches at a time": lambda x: jnp.concatenate(
        [alone(x.reshape(8, -1)[i : i + 2]) for i in range(0, 8, 2)]
    ),
    "padded to its own row": lambda x: x + jnp.pad(x[:1], ((0, 3), *[(0, 0)] * 3)),
    "cut to its own row": lambda x: (
        x + jax.lax.pad(x[2:], 0.0, ((2, 1, 0), (0, 0, 0), (0, 0, 0), (1, -1, 0)))[:4]
    ),
}
KEPT_APART = IN_PARTS | {
    "pieces": lambda x: jnp.concatenate([jnp.sin(x[:2]), jnp.cos(x[2:])]),
    "there and back": lambda x: x[::-1][::-1],
    "merged and split": lambda x: (x.reshape(32, -1) * 2).reshape(2, 2, -1),
    "one by one": lambda x: jax.lax.map(lambda row: row - row.mean(), x),
    "own argmax": lambda x: jnp.take_along_axis(x, x.argmax(3, keepdims=True), 3),
    "position": lambda x: x * jnp.arange(4.0)[:, None, None, None],
    "random": lambda x: x * jax.random.bernoulli(jax.random.key(0), 0.5, x.shape),
    "gradient": jax.grad(lambda x: jnp.sum(jnp.sin(x) ** 2)),
    "own kernel": jax.vmap(lambda r: jnp.convolve(r[:, 0, 0], r[0, :3, 0])),
    "rematerialized": jax.checkpoint(jnp.tanh),
    "tiled": lambda x: jnp.tile(x, (1, 2, 1, 1)),
    "diagonal by a mask": lambda x: jnp.where(EYE, x[:, 0, 0, 0], 0.0).sum(1),
    "rows by a mask": lambda x: jnp.where(np.array(True), x, x[::-1]),
    "one hot": lambda x: (
        jnp.zeros((4, 8)).at[rows_and(x[:, 0, :, 0].argmax(1))].set(1.0)
    ),
    "a random place": lambda x: x[rows_and(jax.random.randint(KEY, (4,), 0, 8))],
    "own largest row": lambda x: x[rows_and(x[:, :, 0, 0].argmax(1))],
    "the branch that is known": lambda x: jax.lax.cond(
        jnp.arange(3).sum() > 2, jnp.sin, lambda y: y[::-1], x
    ),
    "linear solve": lambda x: jax.lax.custom_linear_solve(
        lambda v: 2 * v, x, lambda _, b: b / 2, symmetric=True
    ),
    "custom vmap": doubled,
    "composite": jax.lax.composite(jnp.sin, name="my.sine"),
    "gamma": lambda x: jax.random.gamma(jax.random.clone(KEY), jnp.abs(x)),
    "high bits": lambda x: jax.lax.mulhi(x.astype(int), x.astype(int)),
}


def apart_in_numbers(function, x):
    """Return True if no change of the other rows changes a row's bits."""
    found = jax.jit(function)(x)
    others = [x.at[jnp.arange(len(x)) != i].multiply(-3) for i in range(len(x))]
    return all(
        np.array_equal(found[i], jax.jit(function)(changed)[i])
        for i, changed in enumerate(others)
    )


def under_names(outer, inner):
    """Subtract a collective's result in a batch [b p ...] of patches."""
    less = lambda r: r - outer(inner(r))  # noqa: E731
    return jax.vmap(jax.vmap(less, axis_name="p"), axis_name="b")


def named(collective, *names):
    return lambda r: collective(r, names)


COLLECTIVES = {
    f"{collective.__name__} over {names}": (
        under_names(jnp.sin, named(collective, *names)),
        "b" not in names,
    )
    for collective in (jax.lax.pmean, jax.lax.psum, jax.lax.pmax, jax.lax.pmin)
    for names in ("p", "b", "bp")
}


@pytest.mark.parametrize("name", COLLECTIVES)
def test_collectives_under_vmap_reduce_the_axis_of_their_name(name):
    function, apart = COLLECTIVES[name]
    assert apart_in_numbers(function, IMAGES[:, :3, :2, 0]) is apart
    report = static_independence(function, IMAGES[:, :3, :2, 0])
    assert report.verdict == ("independent" if apart else "mixes examples")
    assert all(place.kind == "mixes" for place in report.places)


def convolve(kernel, axes="NWC", strides=(1,), padding=((0, 0),), **options):
    """Convolve a batch [b 6], laid out as `axes` of [1 b 6] or [b 1 6]."""

    def function(x):
        shape = (1, *x.shape) if axes == "NWC" else (len(x), 1, 6)
        y = jax.lax.conv_general_dilated(
            x.reshape(shape),
            jnp.cos(jnp.arange(np.prod(kernel), dtype=float)).reshape(kernel),
            strides,
            padding,
            dimension_numbers=("NWC", "WIO", "NWC"),
            **options,
        )
        return jnp.resize(y.reshape(-1), (4, y.size // 4))

    return function


CONVOLUTIONS = {
    "window 1": (convolve((1, 6, 3)), True),
    "window 1 in groups": (convolve((1, 2, 6), feature_group_count=3), True),
    "window 3": (convolve((3, 6, 3), padding="SAME"), False),
    "shifted": (convolve((1, 6, 3), padding=((1, -1),)), False),
    "with strides": (convolve((1, 6, 3), strides=(2,)), False),
    "cut and padded": (convolve((1, 6, 3), padding=((-1, 1),)), False),
    "dilated": (
        convolve((1, 6, 3), padding=((0, -3),), lhs_dilation=(2,)),
        False,
    ),
    "groups of the batch": (
        convolve((1, 6, 4), axes="batch", batch_group_count=2),
        False,
    ),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_over_the_batch_keeps_rows_apart_if_its_window_is_one(name):
    function, apart = CONVOLUTIONS[name]
    images = IMAGES.reshape(4, -1)[:, :6]
    assert apart_in_numbers(function, images) is apart
    report = static_independence(function, images)
    assert (report.verdict == "independent") is apart, str(report)


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_the_programs_of_all_platforms_are_followed(platform):
    mixing = {platform: lambda x: x - x.mean(0)[None], "default": jnp.sin}
    branches = lambda x: jax.lax.platform_dependent(x, **mixing)  # noqa: E731
    assert apart_in_numbers(branches, IMAGES) is (platform != jax.default_backend())
    assert static_independence(branches, IMAGES).verdict == "mixes examples"


@pytest.mark.parametrize("name", KEPT_APART)
def test_examples_kept_apart_are_proven_so(name):
    function = KEPT_APART[name]
    report = static_independence(lambda x: function(x).reshape(4, -1), IMAGES)
    assert report.verdict == "independent", str(report)


@pytest.mark.parametrize("name", IN_PARTS)
def test_gradients_of_a_batch_in_parts_are_proven_apart(name):
    """The gradient of a part is padded to the batch; their sum has all of them."""
    function = IN_PARTS[name]
    report = gradient_independence(lambda x: function(x).reshape(4, -1), IMAGES)
    assert report.verdict == "independent", str(report)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_proven_independent_is_so_in_numbers(seed):
    """Chains of random array operations."""
    draws = np.random.default_rng(seed)
    pool = [
        *LEAKS.values(),
        lambda y: y.T,
        lambda y: y.reshape(2, 2, -1).swapaxes(0, 1),
    ]
    chosen = [pool[i] for i in draws.integers(0, len(pool), 2)]

    def chain(x):
        for step in chosen:
            x = step(x.reshape(4, -1))
        return x.reshape(4, -1)

    x = IMAGES.reshape(4, -1)[:, :4]
    same = np.array_equal(chain(x)[0], chain(x.at[1:].multiply(-3))[0])
    assert same or static_independence(chain, x).verdict != "independent"


def test_a_training_step_mixes_in_its_gradient_loss_and_probe_only():
    state, step = tiny.start(tiny.config(norm="gn_ws"))
    places = step_places(step, state, tiny.batch())
    forward = {p.source.split("/")[-1].split(":")[0] for p in places if not p.backward}
    assert forward == {"losses.py", "gradient.py", "step.py"}
    assert all(place.kind == "mixes" for place in places)


def test_a_training_step_with_batchnorm_mixes_in_its_forward_pass():
    state, step = tiny.start(tiny.config(norm="bn"))
    places = step_places(step, state, tiny.batch())
    assert any("models/kernels.py" in p.source and not p.backward for p in places)


@pytest.mark.parametrize(
    "name, operands",
    [("one_minus_square", 1), ("log2", 1), ("relayout", 1), ("polynomial", 3)]
    + [("reshard", 1), ("layout_constraint", 1), ("pvary", 1), ("tie", 2)],
)
def test_operations_that_newer_versions_of_jax_trace_are_judged(name, operands):
    primitive = jax.extend.core.Primitive(name)
    primitive.def_abstract_eval(lambda x, *_: x)
    report = static_independence(lambda x: primitive.bind(*[x] * operands), IMAGES)
    assert report.verdict == "independent"


def test_a_step_that_computes_nothing_may_store_its_batch():
    assert carried_over(lambda state, batch: batch, 0.0, IMAGES) is not None
    assert carried_over(lambda state, batch: state, 0.0, IMAGES) is None
    with pytest.raises(InputError, match="a scalar, which belongs to no example"):
        carried_over(lambda state, batch: batch, 0.0, {"x": IMAGES, "count": 4})


@pytest.mark.parametrize(
    "name", ["unreduced_psum", "unreduced_reduce_scatter", "vary_unreduced_cast_p"]
)
def test_collectives_of_manual_axes_are_unknown(name):
    primitive = jax.extend.core.Primitive(name)
    primitive.def_abstract_eval(lambda x: x)
    report = static_independence(primitive.bind, IMAGES)
    assert [place.kind for place in report.places] == ["unknown"]
    assert report.verdict != "independent"


def test_a_program_for_each_device_is_unknown():
    mesh = jax.make_mesh((1,), ("data",), (jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("data")
    mapped = jax.shard_map(
        lambda x: x - jax.lax.pmean(x.mean(0, keepdims=True), "data"),
        mesh=mesh,
        in_specs=spec,
        out_specs=spec,
    )
    report = static_independence(mapped, IMAGES)
    assert report.verdict != "independent"
    assert {place.kind for place in report.places} == {"unknown"}


@pytest.mark.parametrize(
    "axis, order, independent",
    [(1, 1, True), (1, -1, True), (0, 1, True), (0, -1, False)],
)
def test_the_unstack_of_jax_0_12_is_followed(axis, order, independent):
    unstack = jax.extend.core.Primitive("unstack")
    unstack.multiple_results = True

    @unstack.def_abstract_eval
    def _pieces(x, *, axis):
        shape = (*x.shape[:axis], *x.shape[axis + 1 :])
        return [x.update(shape=shape)] * x.shape[axis]

    def ordered(x):
        pieces = unstack.bind(x.reshape(4, -1), axis=axis)
        return jnp.stack(pieces[::order], axis)

    report = static_independence(ordered, IMAGES[:, :2, :2])
    assert (report.verdict == "independent") is independent


BY_INDEX = {
    "map": lambda x, at: jax.lax.map(lambda i: jnp.sin(x[at(i)]), jnp.arange(4)),
    "scan": lambda x, at: jax.lax.scan(
        lambda c, i: (c, 2 * x[at(i)]), 0.0, jnp.arange(4)
    )[1],
    "fori_loop": lambda x, at: jax.lax.fori_loop(
        0, 4, lambda i, y: y.at[i].set(jnp.sin(x[at(i)])), 0 * x
    ),
}


@pytest.mark.parametrize("check", [static_independence, gradient_independence])
@pytest.mark.parametrize("name", BY_INDEX)
def test_a_loop_over_the_numbers_of_the_images_is_followed(name, check):
    rows = IMAGES[:, 0, 0]
    report = check(lambda x: BY_INDEX[name](x, lambda i: i), rows)
    assert report.verdict == "independent"
    report = check(lambda x: BY_INDEX[name](x, lambda i: (i + 1) % 4), rows)
    assert report.verdict == "mixes examples"


@pytest.mark.parametrize("turns, proven", [(8, "independent"), (16, "not proven")])
def test_rows_that_a_long_loop_chooses_by_number_are_not_judged(
    turns, proven, monkeypatch
):
    monkeypatch.setattr(control, "MOST_TURNS", 12)

    def each_its_row(x, more):
        def body(c, numbered_row):
            i, row = numbered_row
            mine = (jnp.arange(4) == i % 4)[:, None]
            return jnp.where(mine, row + more(c), c), None

        rows = jnp.tile(x, (turns // 4, 1))
        return jax.lax.scan(body, 0 * x, (jnp.arange(turns), rows))[0]

    rows = IMAGES[:, 0, 0]
    alone = static_independence(lambda x: each_its_row(x, lambda c: 0.0), rows)
    assert alone.verdict == proven
    ends = [str(place).partition(" (in a ")[2] for place in alone.places]
    assert ends == ["loop of many turns)"] * (turns > 12)
    joined = static_independence(lambda x: each_its_row(x, lambda c: c.sum(0)), rows)
    assert joined.verdict == "mixes examples"


def twice_and_more(a, b):
    """A computation that JAX has no name for."""
    return a * 2 + b * b


RARE = {
    "reduce": lambda x, axis: jax.lax.reduce(x, 0.0, twice_and_more, (axis + 1,)),
    "reduce_window": lambda x, axis: jax.lax.reduce_window(
        x, 0.0, twice_and_more, (2 - axis, 1, 1 + axis), (1, 1, 1), "SAME"
    ),
    "approx_top_k": lambda x, axis: jax.lax.approx_max_k(x, 4, axis)[0],
    "schur": lambda x, axis: jax.lax.linalg.schur(jnp.moveaxis(x, 0, 1 - axis))[0],
}


@pytest.mark.parametrize("name", RARE)
def test_rare_reductions_along_an_image_are_independent_and_others_are_not(name):
    x = jax.random.normal(KEY, (4, 4, 4))
    inside = lambda x: RARE[name](x, 1)  # noqa: E731
    assert name in str(jax.make_jaxpr(inside)(x))
    assert static_independence(inside, x).verdict == "independent"
    across = lambda x: RARE[name](x, 0) + x[:, :1, :1]  # noqa: E731
    if name == "reduce":
        across = lambda x: RARE[name](x, -1) + x[:, 0]  # noqa: E731
    assert static_independence(across, x).verdict == "mixes examples"


def test_what_begins_a_custom_reduction_counts():
    def begun(x):
        return jax.lax.reduce(x, x[0, 0], twice_and_more, (1,))

    assert static_independence(begun, IMAGES[:, :, 0, 0]).places


def test_a_function_whose_elements_share_a_loop_joins_them():
    a = 10 ** jnp.linspace(0.0, 5.0, 4)
    beta = lambda x: jax.scipy.special.betainc(a, a, x)  # noqa: E731
    assert static_independence(beta, jnp.full(4, 0.5)).verdict == "mixes examples"
    gamma = lambda x: jax.scipy.special.gammainc(a, x)  # noqa: E731
    assert static_independence(gamma, jnp.full(4, 0.5)).verdict == "independent"


def numbers(row):
    """Bits of a row, which may decide a key."""
    return jax.lax.bitcast_convert_type(row, jnp.uint32)


DRAWS = {
    "bits": lambda key, row: jax.random.bits(jax.random.fold_in(key, numbers(row)[0])),
    "split": lambda key, row: jax.random.split(
        jax.random.wrap_key_data(
            jnp.resize(numbers(row), jax.random.key_data(key).shape),
            impl=jax.random.key_impl(key),
        )
    ),
    "fold_in": lambda key, row: jax.random.fold_in(key, numbers(row)[0]),
}


@pytest.mark.parametrize(
    "impl, joined",
    [("threefry2x32", ()), ("rbg", ("bits",)), ("unsafe_rbg", tuple(DRAWS))],
)
@pytest.mark.parametrize("drawn", DRAWS)
def test_keys_draw_alone_under_vmap_only_if_their_kind_does(drawn, impl, joined):
    def draw(row):
        made = DRAWS[drawn](jax.random.key(0, impl=impl), row)
        return made if drawn == "bits" else jax.random.key_data(made)

    rows = jax.random.normal(KEY, (4, 3))
    assert bool(static_independence(jax.vmap(draw), rows).places) == (drawn in joined)
    others = rows.at[0].set(1)  # the analysis and the numbers agree
    changed = (jax.vmap(draw)(others) != jax.vmap(draw)(rows))[1:].any()
    assert bool(changed) == (drawn in joined)
