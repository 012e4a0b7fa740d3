"""A trained encoder as a value in other people's code."""

import dataclasses
import pickle
from inspect import unwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import tiny
from byol_bnfree.config import AugmentConfig, DataConfig
from byol_bnfree.data.augment import example_keys, normalize, two_views
from byol_bnfree.data.pixels import unit_pixels
from byol_bnfree.encoder import load_encoder
from byol_bnfree.errors import InputError
from byol_bnfree.models.norm import NORMS
from byol_bnfree.models.resnet import ResNet
from byol_bnfree.training.ema import ema_update
from byol_bnfree.training.saved_run import read_run
from runs import copy_of, trained


def test_an_empty_path_is_not_the_present_folder(tmp_path, monkeypatch):
    run = copy_of(trained(), tmp_path)
    monkeypatch.chdir(run)
    load_encoder(".")
    with pytest.raises(InputError, match="the path of the encoder is empty"):
        load_encoder("")


def test_an_encoder_can_be_compiled_as_it_is():
    encoder, images = tiny.encoder("bn"), tiny.batch()["image"]
    np.testing.assert_allclose(jax.jit(encoder)(images), encoder(images), rtol=1e-4)


IMAGES = tiny.batch()["image"]
DATA = '{"train": {"images": 4}, "num_classes": 2, "image_shape": [8, 8, 3]}'
SHAPES = ("[8, 8]", '"883"', "[8, 8, 0]", "[8, 8, 3.0]", "[8, 8, null]")


@pytest.mark.parametrize("norm", NORMS)
def test_an_encoder_can_be_pickled(norm):
    encoder = tiny.encoder(norm)
    copy = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(copy(IMAGES), encoder(IMAGES))


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES / 255,
        (IMAGES / 255).astype(np.float16),
        jnp.asarray(IMAGES),
        (IMAGES / 255).astype(">f4"),
    ],
    ids=["uint8", "float64", "float16", "jax", "bytes swapped"],
)
def test_uint8_and_floats_in_0_to_1_are_the_same_images(images):
    encoder = tiny.encoder("gn_ws")
    close = {"rtol": 1e-2 if images.dtype == np.float16 else 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(encoder(images), encoder(IMAGES), **close)


@pytest.mark.parametrize(
    "images, words",
    [
        (IMAGES.astype(np.int64), "int64"),
        (IMAGES.astype(np.uint16), "uint16"),
        (IMAGES > 100, "bool"),
        (IMAGES.astype(np.float32), "from 0 to 255"),
        (IMAGES / 127.5 - 1, "from -1 to 1"),
        (np.where(IMAGES > 250, np.nan, 0.5), "NaN"),
        (IMAGES[0], r"images\[None\]"),
        (np.tile(IMAGES[..., 0], 3), r"images\[..., None\]"),
        (IMAGES[:0], "at least one image"),
        (IMAGES[..., :1], "1 channel in .* trained on 3; convert"),
        (np.moveaxis(IMAGES, -1, 1), "8 channels .*move their second axis"),
        (np.ma.masked_array(IMAGES), "mask"),
    ],
)
def test_images_of_another_kind_are_refused_in_a_sentence(images, words):
    run = tiny.config(data=DataConfig(image_size=8, channels=3))
    encoder = dataclasses.replace(tiny.encoder("gn_ws"), config=run)
    with pytest.raises(InputError, match=words):
        encoder(images)


@pytest.mark.parametrize(
    "images, words",
    [
        (IMAGES.astype(np.float32), "from 0 to 255"),
        (np.moveaxis(np.tile(IMAGES, (1, 2, 2, 1)), -1, 1), r"like \[b c h w\]"),
        (IMAGES[0], r"images\[None\]"),
        (np.tile(IMAGES[..., 0], 3), r"images\[..., None\]"),
        (IMAGES[..., 0].tolist(), "int64"),
    ],
)
def test_images_that_an_encoder_refuses_have_no_views(images, words):
    with pytest.raises(InputError, match=words):
        unwrap(two_views)(jax.random.key(0), images, AugmentConfig())


@pytest.mark.parametrize(
    "given, words",
    [
        ({"size": 0}, "size is 0; give a number of pixels"),
        ({"size": "8"}, "size is '8'"),
        ({"positions": jnp.arange(3)}, r"shape \(3,\), but there are 8 images"),
    ],
)
def test_wrong_arguments_of_two_views_are_refused_in_a_sentence(given, words):
    given = {"key": jax.random.key(0)} | given
    with pytest.raises(InputError, match=words):
        unwrap(two_views)(images=jnp.asarray(IMAGES), augment=AugmentConfig(), **given)
    with pytest.raises(InputError, match="is of type int; give jax.random.key"):
        unwrap(example_keys)(0, jnp.arange(2))


def test_arrays_of_other_libraries_are_refused_in_a_sentence():
    class Tensor:
        shape, dtype = (2, 8, 8, 3), type("torch.uint8", (), {})

    for function in (unit_pixels, lambda x: unwrap(normalize)(x, AugmentConfig())):
        with pytest.raises(InputError, match="are a Tensor of .* np.asarray"):
            unwrap(function)(Tensor())


@pytest.mark.parametrize("stride", [16.0, "8", 3, 0])
def test_a_stride_that_is_no_power_of_two_is_refused_in_a_sentence(stride):
    with pytest.raises(InputError, match="is not possible.*such as 8 or 16"):
        unwrap(ResNet.with_output_stride)(tiny.encoder("gn_ws").module, stride)


def test_views_and_normalized_images_are_float32_in_x64_mode():
    with jax.enable_x64(True):
        views = two_views(jax.random.key(0), jnp.asarray(IMAGES), AugmentConfig())
        assert {v.dtype for v in views} == {jnp.dtype("float32")}
        pixels = jnp.asarray(IMAGES / 255)
        assert normalize(pixels, AugmentConfig()).dtype == jnp.float32


def test_whole_numbers_are_neither_normalized_nor_augmented():
    pixels = jnp.asarray(IMAGES)
    with pytest.raises(InputError, match="uint8.*floats from 0 to 1"):
        unwrap(normalize)(pixels, AugmentConfig())
    with pytest.raises(InputError, match="int32.*uint8"):
        unwrap(two_views)(jax.random.key(0), pixels.astype(jnp.int32), AugmentConfig())


def test_constant_images_of_a_compiled_function_are_checked():
    pixels = jnp.asarray(IMAGES / 255, jnp.float32)
    found = jax.jit(lambda: unwrap(unit_pixels)(pixels))()
    np.testing.assert_array_equal(found, pixels)
    too_large = 255 * pixels
    with pytest.raises(InputError, match="are floats from"):
        jax.jit(lambda: unwrap(unit_pixels)(too_large))()


def test_a_list_of_images_is_a_batch_if_they_have_one_shape():
    found = unwrap(unit_pixels)([*IMAGES])
    np.testing.assert_array_equal(found, unwrap(unit_pixels)(IMAGES))
    with pytest.raises(InputError, match="differ in shape"):
        unwrap(unit_pixels)([IMAGES[0], IMAGES[0, :4]])


@pytest.mark.parametrize(
    "settings, data",
    [
        *[("[]", DATA), ('{"model": 3}', DATA), ("{}", "{}"), ("{}", "[]")],
        *[("{}", DATA.replace("[8, 8, 3]", shape)) for shape in SHAPES],
        *[("{}", DATA.replace("4", images)) for images in ("null", "0", "true")],
        ("{}", DATA.replace(": 2", ': "2"')),
        ('{"extensions": [{}]}', DATA),
    ],
)
def test_records_of_another_form_are_refused_in_a_sentence(tmp_path, settings, data):
    (tmp_path / "config.json").write_text(settings)
    (tmp_path / "dataset.json").write_text(data)
    with pytest.raises(InputError, match="restore"):
        read_run(tmp_path)


@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_an_nnx_encoder_can_be_transformed_and_averaged(norm):
    model, images = tiny.encoder(norm).to_nnx(), jnp.zeros((2, 8, 8, 3))
    expected = model(images)
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(jax.jit(lambda x: model(x))(images), expected, **close)
    one = jax.vmap(lambda x: model(x[None])[0])(images)
    np.testing.assert_allclose(one, expected, **close)
    assert jax.grad(lambda x: model(x).sum())(images).shape == images.shape
    params = nnx.state(model, nnx.Param)
    assert jax.tree.structure(ema_update(params, params, 0.9)) == jax.tree.structure(
        params
    )


def test_batchnorm_in_nnx_updates_its_statistics_in_training():
    model = tiny.encoder("bn").to_nnx()
    before = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
    images = normalize(jnp.asarray(IMAGES / 255, jnp.float32), AugmentConfig())
    nnx.jit(lambda m, x: m(x, True, mutable=["batch_stats"]))(model, images)
    after = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
    assert (after["norm1"]["mean"] != before["norm1"]["mean"]).any()


def test_an_encoder_prints_as_one_line():
    shown = repr(tiny.encoder("gn_ws"))
    assert "gn_ws" in shown and "\n" not in shown and len(shown) < 200


def test_an_encoder_of_a_module_of_ones_own_does_not_print_as_one_of_ours():
    encoder = dataclasses.replace(tiny.encoder("gn_ws"), module=nn.BatchNorm(False))
    assert repr(encoder).startswith("Encoder(BatchNorm, shapes, step 0; images")
