"""Encoders and augmentations of users' own, in files and in programs."""

import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import runs
import tiny
from byol_bnfree import parse_args, train
from byol_bnfree.assembly import create_network
from byol_bnfree.config import AugmentConfig, TrainConfig, ViewsConfig
from byol_bnfree.cpu import native
from byol_bnfree.cpu.choice import choose_kernels
from byol_bnfree.data.augment import two_views
from byol_bnfree.diagnostics import batch_independence
from byol_bnfree.encoder import (
    Encoder,
    abstract_variables,
    encoder_module,
    load_encoder,
)
from byol_bnfree.errors import InputError
from byol_bnfree.models.kernels import XLA
from byol_bnfree.models.norm import NORMS
from byol_bnfree.own_code import changed_code, code_of, load_function
from byol_bnfree.represent import represent
from byol_bnfree.training.gradient import make_loss
from byol_bnfree.training.parts import DataShape, build_parts
from byol_bnfree.untrained import untrained_like
from byol_bnfree.whole_run.resume import check_resumable

FILE = """
from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn


class Small(nn.Module):
    layers: tuple

    @nn.compact
    def __call__(self, images, train=False):
        x = self.layers.conv(8, (3, 3), 2, name="conv1")(images)
        x = self.layers.norm(name="norm1")(x, train)
        return nn.relu(x).mean((1, 2))


def small(layers):
    return Small(layers)


class Ordinary(nn.Module):
    layers: tuple

    @nn.compact
    def __call__(self, images, train):
        x = self.layers.conv(8, (3, 3), 2, name="conv1")(images)
        x = nn.silu(2 * self.layers.norm(name="norm1")(x, train)) - 1
        y = self.layers.norm(name="norm2")(x, train)
        return jnp.concatenate([y[:, 0, 0], y.mean((1, 2))], -1)


def ordinary(layers):
    return Ordinary(layers)


class Dropping(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        return nn.Dropout(0.5, deterministic=not train)(images.mean((1, 2)))


def dropping(layers):
    return Dropping()


class Maps(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        return nn.Conv(4, (3, 3))(images)


def maps(layers):
    return Maps()


class Flat(nn.Module):
    features: int | None

    @nn.compact
    def __call__(self, images, train):
        x = images.reshape(len(images), -1)
        if self.features is not None:
            return nn.Dense(self.features)(x)
        return x * self.param("scale", nn.initializers.ones, ())


def flat(layers):
    return Flat(4)


def wide(layers):
    return Flat(None)


class Short(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        x = nn.Dense(4, param_dtype=jnp.bfloat16, name="fc")(images.mean((1, 2)))
        return x.astype(jnp.float32)


def short(layers):
    return Short()


def number(layers):
    return 3


class Deep(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        return self.inner(images)

    def inner(self, x):
        return absent(x)


def deep(layers):
    return Deep()


def failing(layers):
    raise ValueError("my own mistake\\nand more")


def without_arguments():
    return Flat(4)


def other_layers(layers):
    return layers.linear(3)


def failing_views(key, image, view):
    raise ValueError("my own mistake")


def views_of_two(key, image):
    return image


def branching_views(key, image, view):
    return image if image.mean() > 0 else -image


def listed_views(key, image, view):
    return image.tolist()


def integer_views(key, image, view):
    return (255 * image).astype("uint8")


def views(key, image, view):
    return image[::-1] if view == 1 else jax.random.uniform(key, image.shape)


def small_views(key, image, view):
    return image[:2]
"""
CLASSES = 3
OWN = "my own mistake"


def line(text: str, which: int = 0) -> int:
    """Return the number of the line of FILE that has a text."""
    return [n for n, row in enumerate(FILE.split("\n"), 1) if text in row][which]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "mine.py"
    path.write_text(FILE)
    return path


def config(file, name="small", **fields) -> TrainConfig:
    return tiny.config(encoder=f"{file}:{name}", **fields)


@pytest.mark.parametrize("norm", NORMS)
def test_an_own_encoder_takes_the_norm_of_its_arm_and_is_proved_like_ours(file, norm):
    network = create_network(config(file, norm=norm), CLASSES)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    report = batch_independence(network.encoder, images, True)
    assert report.holds == (norm != "bn")


@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_an_own_encoder_may_do_anything_with_a_normalized_array(file, norm):
    if native.register() is not None:
        pytest.skip("oneDNN is not installed")
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    found = []
    for kernels in (XLA, choose_kernels("onednn", 1)):
        module = encoder_module(config(file, "ordinary", norm=norm), kernels)
        variables = module.init(jax.random.key(1), images, True)
        found.append(module.apply(variables, images, True, mutable=["batch_stats"]))
    tiny.assert_close(*found)


def test_an_own_encoder_keeps_the_kernels_that_it_draws():
    class Ones(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            ones = nn.initializers.ones
            return nn.Dense(4, kernel_init=ones, name="fc")(x.mean((1, 2)))

    network = create_network(tiny.config(), CLASSES, encoder=Ones())
    params = network.init(jax.random.key(0), jnp.ones((2, 8, 8, 3))).online_params
    assert (params["encoder"]["fc"]["kernel"] == 1).all()
    assert np.unique(params["projector"]["fc1"]["kernel"]).size > 9


def test_representations_of_an_own_encoder_in_half_precision_are_float32():
    class Half(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Dense(4, dtype=jnp.bfloat16)(x.mean((1, 2)))

    network = create_network(tiny.config(), None, encoder=Half())
    images = jnp.linspace(0, 1, 2 * 8 * 8 * 3).reshape(2, 8, 8, 3)
    variables = network.init(jax.random.key(0), images)
    params, stats = variables.online_params, variables.online_stats
    outputs, _ = network.online(params, stats, images, True)
    half = {"params": params["encoder"]}
    found = (
        outputs.representation,
        network.representation(params, stats, images),
        represent(network.encoder, half, images, tiny.config().augment),
        Encoder(network.encoder, half, tiny.config(), 0)(images),
    )
    assert {y.dtype for y in found} == {jnp.dtype("float32")}


def test_statistics_of_an_own_batchnorm_are_those_of_one_view():
    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.BatchNorm(not train, momentum=0.5)(x.mean((1, 2)))

    network = create_network(tiny.config(), None, encoder=Normed())
    variables = network.init(jax.random.key(0), jnp.ones((2, 8, 8, 3)))
    state, _ = tiny.start(tiny.config())
    state = state.replace(
        online_stats=variables.online_stats,
        target_stats=variables.target_stats,
        target_params=variables.target_params,
    )
    views = [jnp.full((4, 8, 8, 3), value) for value in (1.0, 3.0)]
    loss = make_loss(network)
    _, ((stats, _), _) = loss(variables.online_params, state, views, jnp.zeros(4, int))
    found = stats["encoder"]["BatchNorm_0"]
    np.testing.assert_allclose(found["mean"], 0.25 * 1 + 0.5 * 3)
    np.testing.assert_allclose(found["var"], 0.25, atol=1e-5)  # of one view: 0


@pytest.mark.parametrize(
    "name, words",
    [
        ("absent", "no function 'absent'; it has Small, small"),
        ("number", "returns int"),
        ("failing", f"fails in line {line(OWN)} with ValueError: {OWN}; repair"),
        ("without_arguments", "fails with TypeError: .*; it is called with .layers.."),
        ("deep", f"fails in line {line('absent(x)')} on images .*NameError"),
        ("other_layers", "AttributeError: 'Layers'.*repair"),
        ("maps", r"gives \(2, 8, 8, 4\) for 2 images"),
        ("short", "keeps fc/.* of its params in bfloat16; keep it in float32"),
        ("dropping", "InvalidRngError.*; an encoder may draw no random numbers"),
    ],
)
def test_what_is_no_encoder_is_refused_in_a_sentence(file, name, words):
    with pytest.raises(InputError, match=words):
        build_parts(config(file, name), DataShape(80, CLASSES, (8, 8, 3)))


@pytest.mark.parametrize(
    "name, words",
    [
        ("flat", r"fails in line \d+ on images \(2, 4, 4, 3\).*remove --views.small"),
        ("wide", r"gives \(2, 48\) for 2 small views .*\(2, 192\) for large"),
    ],
)
def test_an_encoder_of_one_size_and_small_views_are_refused(file, name, words):
    data = DataShape(80, CLASSES, (8, 8, 3))
    build_parts(config(file, "small", views=ViewsConfig(small=1)), data)
    build_parts(config(file, name), data)
    with pytest.raises(InputError, match=words):
        build_parts(config(file, name, views=ViewsConfig(small=1)), data)


@pytest.mark.parametrize("value", ["mine.py", "/nowhere/mine.py:small", ":small"])
def test_a_place_that_is_none_is_refused(value):
    with pytest.raises(InputError, match="model"):
        create_network(tiny.config(encoder=value), CLASSES)


@pytest.mark.parametrize("name", ["resnet18", "resnet14v2"])
def test_a_network_of_ours_in_place_of_a_file_names_the_right_flag(name):
    with pytest.raises(InputError, match=f"give --model.name={name}, or FILE:FUNCT"):
        create_network(tiny.config(encoder=name), CLASSES)


@pytest.mark.parametrize(
    "module", [nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nn.Dense, "resnet18"]
)
def test_an_encoder_of_a_program_is_a_linen_module(module):
    with pytest.raises(InputError, match="encoder is of type .* a module of flax.lin"):
        create_network(tiny.config(), CLASSES, encoder=module)
    if not isinstance(module, str):
        with pytest.raises(InputError, match="module to train.config, encoder=module"):
            tiny.config(encoder=module)


def test_an_encoder_of_a_program_is_asked_for_where_it_can_be_given():
    where = r"train\(config, encoder=module\), or load_encoder\(workdir, encoder=mod"
    with pytest.raises(InputError, match=f"is a Net that a program gave.*{where}"):
        create_network(tiny.config(encoder="given:Net"), CLASSES)


READ = """
import pickle, sys
import numpy as np

encoder = pickle.load(open(sys.argv[1], "rb"))
np.save(sys.argv[2], encoder(np.load(sys.argv[3])))
"""


def test_an_encoder_of_a_file_can_be_unpickled_in_a_new_process(file, tmp_path):
    own, data = config(file, norm="gn_ws"), DataShape(80, CLASSES, (8, 8, 3))
    images = tiny.batch()["image"]
    encoder = untrained_like(own, data, images)
    load_function(f"{file}:views", "augment.function")  # of the same module
    other = tmp_path / "elsewhere" / file.name
    other.parent.mkdir()
    other.write_text(FILE.replace("mean((1, 2))", "max((1, 2))"))
    encoder_module(config(other, norm="gn_ws"))  # takes no other file's place
    pickled, out, given = (tmp_path / name for name in ("e.pkl", "y.npy", "x.npy"))
    pickled.write_bytes(pickle.dumps(encoder))
    np.save(given, images)
    arguments = [sys.executable, "-c", READ, *map(str, (pickled, out, given))]
    subprocess.run(arguments, check=True)
    np.testing.assert_allclose(np.load(out), encoder(images), rtol=1e-5)
    before = file.read_text()
    file.write_text(before + "\n\nx = 1\n")
    with pytest.warns(UserWarning, match="has changed since the encoder was pickled"):
        pickle.loads(pickled.read_bytes())
    file.write_text(before)


def test_own_batch_statistics_and_micro_batches_are_refused(file):
    cut = config(file, norm="gn_ws", encoder_norm=None, micro_batches=2)
    build_parts(cut, DataShape(80, CLASSES, (8, 8, 3)))

    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.BatchNorm(not train)(nn.Conv(4, (3, 3))(x).mean((1, 2)))

    for own, named in ((cut.encoder, cut.encoder), (None, "encoder")):
        of_program = dataclasses.replace(cut, encoder=own)
        with pytest.raises(InputError, match=f"statistics of model {named}; set it"):
            build_parts(of_program, DataShape(80, CLASSES, (8, 8, 3)), encoder=Normed())


def test_own_views_take_the_place_of_ours(file):
    augment = AugmentConfig(function=f"{file}:views")
    images = jnp.asarray(tiny.batch()["image"])
    view1, view2 = two_views(jax.random.key(0), images, augment)
    np.testing.assert_allclose(view1, images[:, ::-1] / 255, atol=1e-6)
    apart = np.abs(view2[:, None] - view2[None]).max((2, 3, 4)) + np.eye(8)
    assert apart.min() > 0.1  # a key for each example


def test_own_views_of_another_size_are_refused(file):
    augment = AugmentConfig(function=f"{file}:small_views")
    with pytest.raises(InputError, match="returns \\(2, 8, 3\\)"):
        two_views(jax.random.key(0), jnp.asarray(tiny.batch()["image"]), augment)


@pytest.mark.parametrize(
    "name, words",
    [
        (
            "failing_views",
            f"in line {line(OWN, 1)} with ValueError: {OWN}; repair the file.",
        ),
        (
            "views_of_two",
            "fails with TypeError: .*; it is called with .key, image, view..",
        ),
        ("branching_views", "TracerBoolConversionError: .*; .* jnp.where or lax.cond."),
        ("listed_views", "ConcretizationTypeError: .*; .* use jnp.where or lax.cond."),
        ("integer_views", "returns uint8, but a view has floats in .0, 1.; divide .*"),
    ],
)
def test_own_views_that_fail_are_refused_in_a_sentence(file, name, words):
    own = config(file, augment=AugmentConfig(function=f"{file}:{name}"))
    with pytest.raises(InputError) as refused:
        build_parts(own, DataShape(80, CLASSES, (8, 8, 3)))
    # `match` would also read the notes that JAX adds.
    assert re.fullmatch(f"(--)?augment.function .*{words}", str(refused.value))


@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_an_encoder_without_a_default_of_train_is_evaluated(file, tmp_path, norm):
    own, data = config(file, "ordinary", norm=norm), DataShape(80, CLASSES, (8, 8, 3))
    images = tiny.batch()["image"]
    untrained = untrained_like(own, data, images)
    shapes = abstract_variables(encoder_module(own), data)
    assert jax.tree.structure(shapes) == jax.tree.structure(untrained.variables)
    wrapped = untrained.to_nnx()(untrained._pixels(images), False)
    np.testing.assert_allclose(wrapped, untrained(images), atol=1e-5)


def test_a_file_of_ones_own_that_changed_is_noticed(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    both = dataclasses.replace(
        config(path), augment=AugmentConfig(function=f"{path}:views")
    )
    before = code_of(both)
    assert len(before) == 2 and code_of(tiny.config()) == ()
    assert code_of(tiny.config(encoder="given:Small")) == ()
    path.write_text("# a remark\n" + FILE.replace("\n\n", "\n"))
    assert changed_code(before, both) is None
    path.write_text(FILE.replace("8, (3, 3)", "9, (3, 3)"))
    assert changed_code(before, both) == f"{path} has changed since the run began"
    assert changed_code((), both) is None  # of an older version, which kept none


def test_a_function_is_that_of_the_file_as_it_is_now(tmp_path):
    path = tmp_path / "mine.py"
    where = f"{path}:f"

    def written(text: str):
        path.write_text(text)
        os.utime(path, (0, 0))  # an edit that times and sizes do not show
        return load_function(where, "augment.function")

    first = written("def f(): return 1\n")
    assert first() == 1 and written("def f(): return 1\n") is first
    assert written("def f(): return 2\n")() == 2


def test_a_file_of_ones_own_may_move_before_a_run_is_resumed(tmp_path):
    def in_folder(name, text=FILE, encoder="small", views="views"):
        (tmp_path / name).mkdir(exist_ok=True)
        path = tmp_path / name / "mine.py"
        path.write_text(text)
        both = dataclasses.replace(
            config(path, encoder), augment=AugmentConfig(function=f"{path}:{views}")
        )
        return dataclasses.replace(both, own_code=code_of(both))

    saved = dataclasses.asdict(in_folder("before"))
    (tmp_path / "config.json").write_text(json.dumps(saved))
    (tmp_path / "summary.json").write_text("{}")  # something to resume
    assert not check_resumable(tmp_path, in_folder("after"), None)
    for changed in (
        {"text": FILE.replace("8, (3, 3)", "9, (3, 3)")},
        {"encoder": "maps"},
        {"views": "small_views"},
    ):
        with pytest.raises(InputError, match="other settings"):
            check_resumable(tmp_path, in_folder("after", **changed), None)


@pytest.mark.slow
def test_a_run_with_an_encoder_of_a_file_or_of_a_program(file, tmp_path):
    own = [f"--model={file}:small", f"--augment.function={file}:views"]
    first = parse_args([*runs.ARGUMENTS, *own, f"--workdir={tmp_path / 'file'}"])
    train(first)
    encoder = load_encoder(tmp_path / "file")
    assert encoder(np.zeros((2, 16, 16, 3), np.uint8)).shape == (2, 8)
    assert runs.run(tmp_path / "file", "knn", "random")

    file.write_text(FILE.replace("mean((1, 2))", "max((1, 2))"))
    with pytest.raises(InputError, match="mine.py has changed since the run began"):
        train(first)
    with pytest.warns(UserWarning, match="mine.py has changed"):
        load_encoder(tmp_path / "file")
    file.write_text(FILE)

    given = dataclasses.replace(
        first, encoder=None, workdir=str(tmp_path / "given"), steps=3
    )
    train(given, encoder=encoder.module)
    with pytest.raises(InputError, match="gave to train.*encoder=module"):
        load_encoder(tmp_path / "given")
    again = load_encoder(tmp_path / "given", encoder=encoder.module)
    assert again.step == 3
