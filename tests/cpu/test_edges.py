"""Every implementation of an operation equals XLA's equation, at the edges too.

Cases are drawn from a seed. Each is a call that could be wrong in a way of its own:
odd sizes, negative or one-sided padding, kernels larger than images, empty batches,
NaN, one dimension, other types. Where XLA refuses, so must the others.
"""

import subprocess
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byol_bnfree.cpu import native
from byol_bnfree.cpu.choice import ONEDNN, XLA_ON_CPU, choose_kernels
from byol_bnfree.errors import InputError
from byol_bnfree.models.batch_norm import BatchNorm
from byol_bnfree.models.kernels import XLA
from byol_bnfree.models.norm import layers_for

problem = native.register()
needs_onednn = pytest.mark.skipif(problem is not None, reason=str(problem))
OTHERS = [
    pytest.param(ONEDNN, id="onednn", marks=needs_onednn),
    pytest.param(XLA_ON_CPU, id="xla on cpu"),
]


def cases(fast: int, all_of_them: int = 40):
    """Seeds of cases, of which a failure's name draws its own again; most are slow."""
    slow = [pytest.param(s, marks=pytest.mark.slow) for s in range(fast, all_of_them)]
    return pytest.mark.parametrize("seed", [*range(fast), *slow])


def outcome(f, *arrays):
    """What a function gives, and its gradients; or that it refuses."""
    with jax.disable_jit():  # compiling each case would take longer than the cases
        try:
            y, pull = jax.vjp(lambda *a: jnp.asarray(f(*a)), *arrays)
            return (
                y,
                *pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)),
            )
        except (TypeError, ValueError, ZeroDivisionError) as error:
            return type(error)


def assert_same(ours, theirs):
    if isinstance(theirs, type):
        assert isinstance(ours, type)
        return
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        a, b = (np.asarray(z, np.float32) for z in (a, b))
        size = np.abs(b[np.isfinite(b)]).max(initial=1e-3)
        tolerance = 1e-4 if theirs[0].dtype == jnp.float32 else 3e-2
        np.testing.assert_allclose(a, b, atol=tolerance * size)


def convolution(draws):
    """A call of `conv`: arrays and arguments."""
    rank = draws.choice([1, 2, 2, 2])
    kernel = draws.integers(1, 4, rank)
    c, d = draws.choice([1, 3, 8, 17, 64], 2)
    batch = draws.choice([0, 1, 3, 5])
    shape = (batch, *draws.integers(1, 9, rank), c)
    least = -1 if rank == 2 else 0  # of one dimension XLA:CPU's own gradient is wrong
    pads = [tuple(map(int, draws.integers(least, 4, 2))) for _ in range(rank)]
    letters = "HW"[:rank]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    dtype = draws.choice([jnp.float32] * 4 + [jnp.bfloat16])
    arrays = (draws.normal(size=s) for s in (shape, (*kernel, c, d)))
    return [jnp.asarray(a, dtype) for a in arrays], {
        "window_strides": tuple(map(int, draws.integers(1, 3, rank))),
        "padding": draws.choice(["SAME", "VALID"]) if draws.random() < 0.3 else pads,
        "dimension_numbers": numbers,
    }


@pytest.mark.parametrize("kernels", OTHERS)
@pytest.mark.parametrize("name", ["conv", "std_conv"])
@cases(fast=3)
def test_convolutions_equal_xlas(kernels, name, seed):
    arrays, options = convolution(np.random.default_rng(seed))
    ours, theirs = (
        outcome(partial(getattr(k, name), **options), *arrays) for k in (kernels, XLA)
    )
    assert_same(ours, theirs)


@pytest.mark.parametrize("kernels", OTHERS)
def test_negative_padding_of_wide_1x1_kernels_is_xlas(kernels):
    draws = np.random.default_rng(0)
    x, w = (
        jnp.float32(draws.normal(size=s)) for s in ((2, 4, 4, 512), (1, 1, 512, 256))
    )
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "window_strides": (1, 1)}
    options["padding"] = ((1, -1), (-1, 1))
    ours, theirs = (outcome(partial(k.conv, **options), x, w) for k in (kernels, XLA))
    assert_same(ours, theirs)


@pytest.mark.parametrize("name", ["dense", "std_dense"])
@cases(fast=3)
@needs_onednn
def test_dense_layers_equal_xlas(name, seed):
    draws = np.random.default_rng(seed)
    rows, c, d = draws.choice([0, 1, 5, 33]), *draws.choice([1, 7, 40], 2)
    shape = (rows, c) if draws.random() < 0.7 else (2, rows, c)
    x, w = (jnp.float32(draws.normal(size=s)) for s in (shape, (c, d)))
    numbers = (((len(shape) - 1,), (0,)), ((), ()))
    ours, theirs = (
        outcome(lambda x, w, k=k: getattr(k, name)(x, w, numbers), x, w)
        for k in (ONEDNN, XLA)
    )
    assert_same(ours, theirs)


def normalization(draws):
    """Arrays and arguments of `normalize`, of which a few do not divide."""
    batch, groups = draws.choice([0, 1, 2, 5, 6, 12]), draws.choice([1, 2, 5])
    channels = groups * draws.choice([1, 2, 3, 16]) + (draws.random() < 0.1)
    pixels = draws.integers(1, 6, draws.choice([0, 1, 2, 3]))
    shape = (batch, *pixels, channels)
    x, shortcut = draws.normal(2, 3, shape), draws.normal(size=shape)
    if draws.random() < 0.3 and x.size:
        x.flat[0] = np.nan
    parameters = (draws.normal(size=channels) for _ in range(2))
    counts = {
        "images": int(draws.choice([1, 1, 2, 3, 6])),
        "views": int(draws.choice([1, 1, 2])),
        "groups": int(groups),
    }
    dtype = draws.choice([jnp.float32] * 4 + [jnp.bfloat16])
    arrays = [jnp.asarray(z, dtype) for z in (x, shortcut)]
    return [*arrays, *map(jnp.float32, parameters)], counts


@pytest.mark.parametrize("kernels", OTHERS)
@cases(fast=3)
def test_normalizations_equal_xlas(kernels, seed):
    draws = np.random.default_rng(seed)
    arrays, counts = normalization(draws)
    more, relu = draws.random(2) < 0.5

    def f(k, x, shortcut, scale, bias):
        y, mean, variance = k.normalize(x, scale, bias, **counts)
        y = y + shortcut if more else y
        y = k.relu(y) if relu else jnp.asarray(y)
        known = jax.lax.stop_gradient(jnp.concatenate([mean, variance]))
        return jnp.concatenate([y.ravel(), known.ravel().astype(y.dtype)])

    ours, theirs = (outcome(partial(f, k), *arrays) for k in (kernels, XLA))
    assert_same(ours, theirs)


@pytest.mark.parametrize("kernels", [pytest.param(XLA, id="xla"), *OTHERS])
def test_nan_passes_the_relu(kernels):
    x = jnp.ones((2, 4, 4, 16)).at[0, 0, 0, 0].set(jnp.nan)
    y, _, _ = kernels.normalize(x, jnp.ones(16), jnp.zeros(16), images=2, groups=16)
    found = np.isnan(kernels.relu(y + x))
    assert found[..., 0].all() and not found[..., 1:].any()


@pytest.mark.parametrize("kernels", [pytest.param(XLA, id="xla"), *OTHERS])
@pytest.mark.parametrize(
    "counts",
    [{"stat_groups": 2}, {"views": 2}, {"stat_groups": 4}],  # 4: of one image each
)
def test_a_batch_that_groups_or_views_do_not_divide_is_refused(kernels, counts):
    module = BatchNorm(**counts, normalize=kernels.normalize)
    with pytest.raises(InputError, match="batch of 5 images"):
        module.init(jax.random.key(0), jnp.ones((5, 3, 3, 8)), True)


@pytest.mark.parametrize("kernels", [pytest.param(XLA, id="xla"), *OTHERS])
@pytest.mark.parametrize(
    ("blocks", "sentence"),
    [
        ({"images": 2, "groups": 8}, "5 images cannot be cut into blocks of 2"),
        ({"images": 1, "views": 2, "groups": 8}, "for 2 views"),
        ({"images": 0, "groups": 8}, "blocks of 0 images"),
        ({"images": 5, "groups": 3}, "8 channels cannot be cut into 3 equal groups"),
    ],
)
def test_blocks_that_do_not_divide_are_one_sentence(kernels, blocks, sentence):
    with pytest.raises(InputError, match=sentence):
        kernels.normalize(jnp.ones((5, 3, 3, 8)), jnp.ones(8), jnp.ones(8), **blocks)


@needs_onednn
@pytest.mark.parametrize("name", ["moments", "normalize", "conv_output"])
def test_the_calls_themselves_read_no_memory_that_is_not_theirs(name):
    """As if the Python above them were wrong."""
    call = partial(jax.ffi.ffi_call, native.TARGETS[name])
    f32 = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    x, empty = jnp.ones((5, 9, 8)), jnp.zeros(0)
    blocks = {"images": np.int64(2), "views": np.int64(1), "groups": np.int64(8)}
    with pytest.raises(Exception, match="the CPU kernels"):
        if name == "moments":
            call([f32((3, 8)), f32((3, 8))])(x, **blocks)
        elif name == "normalize":
            more = {"relu": True, "epsilon": np.float32(1e-5)}
            shapes = [f32(x.shape), f32((5, 8)), f32((5, 8))]
            blocks["images"] = np.int64(1)
            few = jnp.ones(7)  # of 8 channels
            call(shapes)(x, few, few, empty, empty, empty, **blocks, **more)
        else:
            call(f32((2, 4, 4, 6)))(
                *(jnp.ones((2, 4, 4, 8)), jnp.ones((1, 1, 8, 6))),
                strides=np.int64([1, 1]),
                padding=np.int64([1, -1, 0, 0]),
                epsilon=np.float32(0),
            )


@needs_onednn
@pytest.mark.parametrize("mode", [jax.jvp, lambda f, x, t: jax.jacfwd(f)(*x)])
def test_forward_mode_is_refused_with_a_sentence(mode):
    layers = layers_for("gn_ws", kernels=choose_kernels("onednn", 1))
    params = {"params": {"scale": jnp.ones(16), "bias": jnp.zeros(16)}}

    def f(x):
        return layers.relu(layers.norm().apply(params, x, True))

    x = (jnp.ones((2, 16)),)
    with pytest.raises(InputError, match="no forward-mode derivative"):
        mode(f, x, x)
    dense = partial(ONEDNN.dense, dimension_numbers=(((1,), (0,)), ((), ())))
    with pytest.raises(InputError, match="no forward-mode derivative"):
        mode(lambda w: dense(jnp.ones((3, 2)), w), x, x)


WORKSPACE = """
#include <cstdio>
#include "parallel.h"
int main() {
  Workspace workspace;
  workspace.Get(10);
  for (const size_t floats : {SIZE_MAX / 16, SIZE_MAX / 2}) {
    bool failed = false;
    try { workspace.Get(floats); } catch (const std::bad_alloc&) { failed = true; }
    float* after = workspace.Get(20);
    if (!failed || !after) return 1;
    after[19] = 1;
  }
}
"""


@needs_onednn
def test_a_failed_allocation_is_asked_for_again(tmp_path):
    (tmp_path / "main.cc").write_text(WORKSPACE)
    headers = native._FOLDER
    command = ["c++", "-std=c++17", "-fopenmp", f"-I{headers}", "main.cc"]
    command += ["-isystem", jax.ffi.include_dir(), "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "main"], check=True)
