import dataclasses
import inspect
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from byol_bnfree.config import AugmentConfig, TrainConfig, ViewConfig, ViewsConfig
from byol_bnfree.data import augment, image_ops, one_view
from byol_bnfree.data.views import all_views
from byol_bnfree.errors import InputError

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "augment.npz")
OFF = ViewConfig(
    crop_area=(1.0, 1.0), crop_aspect=(1.0, 1.0), flip=0, jitter=0, grayscale=0, blur=0
)
OPERATIONS = {
    "brightness": jax.jit(image_ops.adjust_brightness),
    "contrast": jax.jit(image_ops.adjust_contrast),
    "saturation": jax.jit(image_ops.adjust_saturation),
    "hue": jax.jit(image_ops.adjust_hue),
    "grayscale": jax.jit(image_ops.grayscale),
    "gaussian_blur": jax.jit(image_ops.gaussian_blur),
    "solarize": jax.jit(image_ops.solarize),
}
COLOUR = list(OPERATIONS.values())[:4]
two_views = jax.jit(augment.two_views, static_argnames=("augment", "size"))
resized_crop = jax.jit(image_ops.resized_crop, static_argnames="size")
apply_view = jax.jit(one_view.apply_view, static_argnames=("view", "crop_to"))
draw_view = jax.jit(one_view.draw_view, static_argnames=("image_size", "view"))
color_jitter = jax.jit(image_ops.color_jitter, static_argnames="view")


@partial(jax.jit, static_argnames="config")
def two_views_of_crops(key, crops, config):
    """Both views in [0, 1] of crops that the host made, as a training step draws."""
    batch = {"crops": crops, "position": jnp.arange(len(crops))}
    raw = dataclasses.replace(config, mean=(0, 0, 0), std=(1, 1, 1))
    return all_views(key, batch, raw, ViewsConfig()).large


def pictures(b: int = 4, h: int = 20, w: int = 20, c: int = 3) -> jax.Array:
    values = np.random.default_rng(b * h * w * c).integers(0, 256, (b, h, w, c))
    return jnp.asarray(values, jnp.uint8)


def planes(c: int = 3, h: int = 20, w: int = 20) -> jax.Array:
    return jax.random.uniform(jax.random.key(c), (c, h, w))


def only(**switched_on) -> AugmentConfig:
    view = dataclasses.replace(OFF, **switched_on)
    return AugmentConfig(view1=view, view2=view)


@cache
def draws(**changes) -> one_view.ViewDraw:
    view = ViewConfig(**changes)
    draw = jax.vmap(lambda key: one_view.draw_view(key, (32, 40), view))
    return jax.jit(draw)(jax.random.split(jax.random.key(0), 5000))


@pytest.mark.parametrize("case", [k for k in GOLDEN if not k.startswith("images")])
def test_operation_equals_deepminds(case):
    name, *arguments = case.split("/")
    images = GOLDEN["images128" if "size=128" in case else "images"]
    amounts = [float(a.removeprefix("sigma=")) for a in arguments if "size" not in a]
    operation = jax.vmap(lambda image: OPERATIONS[name](image, *amounts))
    actual = operation(jnp.asarray(images).transpose(0, 3, 1, 2))
    np.testing.assert_allclose(
        actual.transpose(0, 2, 3, 1), GOLDEN[case], rtol=0, atol=1e-5
    )


def test_every_deterministic_operation_has_a_golden_number():
    assert {k.split("/")[0] for k in GOLDEN} - {"images", "images128"} == set(
        OPERATIONS
    )


def test_resize_equals_tensorflows_bicubic():
    row = np.array([0.25, 0.75, 0.25, 0.25, 0.5], np.float32)
    # tf.image.resize(row[None, :, None, None], (8, 1), "bicubic") of TensorFlow 2.21
    # for the row (0, 1, 0, 0, 0.5), here scaled to stay clear of the clip.
    tf = [-0.07195572, 0.44514212, 0.9906006, 0.30578613]
    tf += [-0.09063721, -0.01556396, 0.30260304, 0.53597784]
    image = jnp.asarray(row)[None, :, None]
    actual = resized_crop(image, jnp.array([0, 0, 5, 1]), (8, 1))
    np.testing.assert_allclose(actual[0, :, 0], 0.25 + np.array(tf) / 2, atol=1e-6)


@pytest.mark.parametrize("box", [(0, 0, 40, 48), (3, 5, 7, 11), (39, 47, 1, 1)])
@pytest.mark.parametrize("size", [16, 64])
def test_resized_crop_equals_cropping_and_then_resizing(box, size):
    image, (top, left, h, w) = planes(h=40, w=48), box
    crop = image[:, top : top + h, left : left + w]
    expected = jax.image.resize(crop, (3, size, size), "cubic", antialias=False)
    actual = resized_crop(image, jnp.array(box), size)
    np.testing.assert_allclose(actual, jnp.clip(expected, 0, 1), atol=1e-6)


def test_crops_cover_the_range_of_areas_and_aspects_and_stay_inside():
    top, left, h, w = np.asarray(draws().box).T
    area, aspect = h * w / (32 * 40), w / h
    assert area.min() < 0.1 and area.max() > 0.95 and abs(area.mean() - 0.53) < 0.03
    assert aspect.min() < 0.78 and aspect.max() > 1.3
    assert (np.minimum(top, left) >= 0).all() and (np.minimum(h, w) >= 1).all()
    assert (top + h <= 32).all() and (left + w <= 40).all()
    free = h < 32
    assert (top[free] == 0).any() and (top + h == 32)[free].any()


def test_crops_are_as_often_tall_as_wide():
    """Aspects are log-uniform: of uniform ones four in five would be wide."""
    _, _, h, w = draws(crop_area=(0.05, 0.1), crop_aspect=(1 / 4, 4.0)).box.T
    assert abs(np.mean(w > h) - np.mean(w < h)) < 0.06


def test_each_operation_is_drawn_with_its_own_probability():
    chances = dict(flip=0.5, jitter=0.8, grayscale=0.2, blur=0.1, solarize=0.35)
    drawn = draws(**chances)
    flags = np.stack([getattr(drawn, name) for name in chances])
    np.testing.assert_allclose(flags.mean(1), list(chances.values()), atol=0.025)
    np.testing.assert_allclose(np.corrcoef(flags), np.eye(5), atol=0.05)


def test_vertical_flips_and_quarter_turns_are_drawn_with_their_probabilities():
    drawn = draws(vertical_flip=0.3, quarter_turn=0.75)
    assert abs(drawn.vertical_flip.mean() - 0.3) < 0.03
    counts = np.bincount(drawn.quarters, minlength=4) / len(drawn.quarters)
    np.testing.assert_allclose(counts, 0.25, atol=0.03)
    others = np.stack([drawn.flip, drawn.vertical_flip, drawn.quarters])
    np.testing.assert_allclose(np.corrcoef(others), np.eye(3), atol=0.05)


def test_flips_are_left_and_right():
    images = pictures()
    flipped, _ = two_views(jax.random.key(0), images, only(flip=1))
    np.testing.assert_allclose(flipped, images[:, :, ::-1] / 255, atol=1e-6)


def test_vertical_flips_and_quarter_turns_are_off_unless_asked_for():
    assert not draws().vertical_flip.any() and not draws().quarters.any()


def test_views_with_vertical_flips_and_quarter_turns_are_the_turned_images():
    images, key = pictures(b=8), jax.random.key(1)
    expected = np.asarray(images) / 255
    upside_down, _ = two_views(key, images, only(vertical_flip=1))
    np.testing.assert_allclose(upside_down, expected[:, ::-1], atol=1e-6)
    turned, _ = two_views(key, images, only(quarter_turn=1))
    found = set()
    for image, view in zip(expected, turned, strict=True):
        ways = [np.allclose(view, np.rot90(image, k), atol=1e-6) for k in range(4)]
        assert sum(ways) == 1 and not ways[0]
        found.add(ways.index(True))
    assert len(found) > 1


def test_quarter_turns_of_oblong_views_are_refused():
    with pytest.raises(InputError, match="quarter_turn needs square views.*20x28"):
        two_views(jax.random.key(0), pictures(h=20, w=28), only(quarter_turn=0.5))


def test_amounts_and_sigma_are_uniform_in_their_ranges():
    drawn = draws()
    values = np.column_stack([drawn.amounts, drawn.sigma])
    low = np.array([-0.4, 0.6, 0.8, -0.1, 0.1])
    high = np.array([0.4, 1.4, 1.2, 0.1, 2.0])
    share = (values - low) / (high - low)
    assert share.min() > -1e-6 and share.max() < 1 + 1e-6
    np.testing.assert_allclose(share.mean(0), 0.5, atol=0.03)
    np.testing.assert_allclose(share.std(0), 12**-0.5, atol=0.02)


def test_every_order_of_the_colour_operations_is_equally_likely():
    orders = np.argsort(draws().turns, axis=1)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24 and counts.min() > 150 and counts.max() < 270


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_jitter_is_the_four_operations_in_the_drawn_order(order):
    amounts, image = jnp.array([0.3, 1.4, 0.8, -0.1]), planes()
    actual = color_jitter(
        image, amounts, jnp.argsort(jnp.array(order)) / 4, ViewConfig()
    )
    for i in order:
        image = COLOUR[i](image, amounts[i])
    np.testing.assert_allclose(actual, image, atol=1e-6)


def test_jitter_of_a_batch_is_jitter_of_each_image():
    # The compiler may compute a pixel twice, a bit apart: hue must survive that.
    view = dataclasses.replace(OFF, jitter=1, brightness=0, saturation=0)
    images, key = pictures(b=2, h=16, w=16), jax.random.key(0)
    crops = jnp.stack([images, images], 1)
    _, batch = two_views_of_crops(key, crops, AugmentConfig(view, view))
    for i, example_key in enumerate(augment.example_keys(key, jnp.arange(2))):
        draw = draw_view(jax.random.split(example_key)[1], (16, 16), view)
        image = images[i].transpose(2, 0, 1) / 255
        for operation in sorted((1, 3), key=lambda op: draw.turns[op]):
            image = COLOUR[operation](image, draw.amounts[operation])
        np.testing.assert_allclose(batch[i], image.transpose(1, 2, 0), atol=1e-5)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_jitter_leaves_out_operations_of_strength_0(name):
    strengths = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
    view = ViewConfig(**strengths | {name: 0.1})
    image, amounts = planes(), jnp.array([0.3, 1.4, 0.8, -0.1])
    actual = color_jitter(image, amounts, jnp.arange(4) / 4, view)
    expected = OPERATIONS[name](image, amounts[list(OPERATIONS).index(name)])
    np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_view_without_operations_is_the_image(channels):
    images = pictures(c=channels)
    for view in two_views(jax.random.key(0), images, only()):
        np.testing.assert_allclose(view, np.asarray(images) / 255, atol=1e-6)


def test_operations_of_probability_0_are_not_computed():
    crops = jnp.stack([pictures(), pictures()], 1)
    program = two_views_of_crops.lower(jax.random.key(0), crops, only()).compile()
    assert " while(" not in program.as_text()  # not even their random numbers
    assert program.cost_analysis()["flops"] <= 4 * crops.size  # to [0, 1], clip


def test_operations_of_probability_1_run_in_byols_order():
    view = ViewConfig(flip=1, jitter=1, grayscale=1, blur=1, solarize=1)
    image, draw = planes(), one_view.draw_view(jax.random.key(3), (20, 20), OFF)
    expected = image_ops.flip(resized_crop(image, draw.box, 20))
    expected = color_jitter(expected, draw.amounts, draw.turns, view)
    expected = OPERATIONS["gaussian_blur"](image_ops.grayscale(expected), draw.sigma)
    expected = jnp.clip(image_ops.solarize(expected, 0.5), 0, 1)
    actual = apply_view(image, draw, view, 20)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_switching_an_operation_off_leaves_the_other_draws():
    full = draw_view(jax.random.key(0), (32, 32), ViewConfig())
    some = draw_view(jax.random.key(0), (32, 32), ViewConfig(jitter=0))
    jax.tree.map(np.testing.assert_array_equal, full, some._replace(jitter=full.jitter))


@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_float32_in_0_to_1_of_the_asked_size(channels):
    images = pictures(c=channels)
    for view in two_views(jax.random.key(0), images, AugmentConfig(), size=24):
        assert view.dtype == jnp.float32 and view.shape == (4, 24, 24, channels)
        assert view.min() >= 0 and view.max() <= 1 and view.std() > 0.05


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.bfloat16, jnp.float32])
def test_views_are_float32_of_the_images_size_whatever_the_images_type(dtype):
    images = pictures(h=20, w=28)
    typed = images if dtype == jnp.uint8 else (images / 255).astype(dtype)
    view, _ = two_views(jax.random.key(0), typed, only(crop_aspect=(1, 1)))
    expected = np.float32(typed) / (255 if dtype == jnp.uint8 else 1)
    assert view.dtype == jnp.float32
    np.testing.assert_allclose(view, expected, atol=1e-6)


def test_one_channel_has_no_saturation_hue_and_grayscale_but_the_rest():
    gray = planes(c=1)
    for name in ("saturation", "hue"):
        np.testing.assert_array_equal(OPERATIONS[name](gray, 0.1), gray)
    np.testing.assert_array_equal(image_ops.grayscale(gray), gray)
    for name in ("brightness", "contrast", "gaussian_blur", "solarize"):
        assert jnp.abs(OPERATIONS[name](gray, 0.3) - gray).max() > 1e-3


def test_view_does_not_depend_on_other_images():
    images, key = pictures(), jax.random.key(5)
    others = images.at[1:].set(255 - images[1:])
    for a, b in zip(
        two_views(key, images, AugmentConfig()),
        two_views(key, others, AugmentConfig()),
        strict=True,
    ):
        np.testing.assert_array_equal(a[0], b[0])
        assert (a[1:] != b[1:]).any()


def test_view_goes_with_its_position_in_the_global_batch():
    images, key, config = pictures(), jax.random.key(5), only(crop_area=(0.1, 0.5))
    straight, _ = two_views(key, images, config, positions=jnp.arange(4))
    turned, _ = two_views(key, images[::-1], config, positions=3 - jnp.arange(4))
    unmoved, _ = two_views(key, images[::-1], config)
    np.testing.assert_array_equal(turned[::-1], straight)
    assert jnp.abs(unmoved[::-1] - straight).max() > 0.1


def test_same_key_gives_the_same_views_and_another_key_others():
    images, config = pictures(), AugmentConfig()
    first, again, other = (
        two_views(jax.random.key(i), images, config) for i in (1, 1, 2)
    )
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert all(jnp.abs(a - c).max((1, 2, 3)) > 0.1)


def test_the_two_views_of_an_image_are_drawn_independently():
    images = jnp.repeat(pictures()[:1], 4, axis=0)
    view1, view2 = two_views(jax.random.key(0), images, only(crop_area=(0.2, 0.5)))
    every = jnp.concatenate([view1, view2])
    distance = jnp.abs(every[:, None] - every[None]).mean((2, 3, 4))
    assert (distance + jnp.eye(8)).min() > 0.02


def test_views_are_the_same_on_two_devices_without_communication():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    rows, images, key = NamedSharding(mesh, P("data")), pictures(), jax.random.key(0)
    draw = partial(augment.two_views, augment=AugmentConfig())
    sharded = jax.jit(draw, in_shardings=(None, rows), out_shardings=rows)
    compiled = sharded.lower(key, images).compile()
    assert not any(w in compiled.as_text() for w in ("all-gather", "all-reduce"))
    # Not bit for bit: XLA sums contrast's mean in an order that depends on the shape.
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=0, atol=2e-6),
        compiled(key, jax.device_put(images, rows)),
        two_views(key, images, AugmentConfig()),
    )


def test_views_of_crops_draw_as_views_do_after_the_crop():
    images, config, key = pictures(), only(flip=0.5, solarize=0.5), jax.random.key(0)
    crops = jnp.stack([images, images], 1)
    jax.tree.map(
        partial(np.testing.assert_allclose, atol=1e-6),
        two_views_of_crops(key, crops, config),
        two_views(key, images, config),
    )


def test_each_view_is_made_of_its_own_crop():
    crops = jnp.stack([pictures(), 255 - pictures()], 1)
    views = two_views_of_crops(jax.random.key(0), crops, only())
    for i, view in enumerate(views):
        np.testing.assert_allclose(view, crops[:, i] / 255, atol=1e-6)


@pytest.mark.parametrize("of_crops", [False, True])
def test_each_view_has_the_operations_of_its_own_distribution(of_crops):
    config = AugmentConfig(OFF, dataclasses.replace(OFF, solarize=1))
    images, key = pictures(), jax.random.key(0)
    if of_crops:
        views = two_views_of_crops(key, jnp.stack([images, images], 1), config)
    else:
        views = two_views(key, images, config)
    expected = np.asarray(images) / 255
    np.testing.assert_allclose(views[0], expected, atol=1e-6)
    solarized = np.where(expected < 0.5, expected, 1 - expected)
    np.testing.assert_allclose(views[1], solarized, atol=1e-6)


def test_normalize_subtracts_mean_and_divides_by_deviation():
    config = AugmentConfig(mean=(0.1, 0.2, 0.6), std=(0.5, 0.25, 0.75))
    rgb = augment.normalize(jnp.ones((1, 1, 1, 3), jnp.bfloat16), config)
    gray = augment.normalize(jnp.ones((1, 1, 1, 1)), config)
    np.testing.assert_allclose(rgb[0, 0, 0], [1.8, 3.2, 0.4 / 0.75], rtol=1e-6)
    np.testing.assert_allclose(gray[0, 0, 0], [0.7 / 0.5], rtol=1e-6)
    assert rgb.dtype == jnp.float32


PIXELS = np.random.default_rng(0).random((2, 8, 6, 3), np.float32)


@pytest.mark.parametrize(
    "images, why",
    [
        (np.moveaxis(PIXELS, -1, 1), r"looks like \[b c h w\]"),
        (PIXELS * 255, "floats from .* give floats from 0 to 1"),
        (PIXELS[0], r"images\[None\] makes it a batch"),
        (PIXELS * np.nan, "hold NaN"),
        (np.uint8(PIXELS), r"are uint8; give floats .* images / 255"),
    ],
)
def test_normalize_refuses_what_an_encoder_refuses(images, why):
    normalize = inspect.unwrap(augment.normalize)
    with pytest.raises(InputError, match=why):
        normalize(images, AugmentConfig())
    assert jax.jit(lambda x: normalize(x, AugmentConfig()))(PIXELS).shape == (
        PIXELS.shape
    )


def test_settings_of_views_are_an_augment_config():
    """A TrainConfig is at hand in `encoder.config`."""
    for draw in (
        partial(inspect.unwrap(augment.normalize), PIXELS),
        partial(inspect.unwrap(augment.two_views), jax.random.key(0), PIXELS),
    ):
        with pytest.raises(
            InputError, match="is of type TrainConfig; give an AugmentConfig"
        ):
            draw(TrainConfig())


@pytest.mark.parametrize(
    "settings, sentence",
    [
        (AugmentConfig(std=(0.0, 0.0, 0.0)), "augment.std is (0.0, 0.0, 0.0); it must"),
        (
            AugmentConfig(mean=(0.5, 0.5)),
            "augment.mean has 2 numbers and augment.std 3",
        ),
        (AugmentConfig(mean=0.5), "augment.mean is 0.5; it must be a tuple"),
        (
            AugmentConfig(function=max),
            "augment.function is of type builtin_function_or",
        ),
        (AugmentConfig(ViewConfig(flip=5.0)), "augment.view1.flip is 5.0; it must be"),
        (
            AugmentConfig(view2=ViewConfig(crop_area=(2.0, 9.0))),
            "augment.view2.crop_area is (2.0, 9.0); it must be a range",
        ),
    ],
)
def test_views_refuse_the_values_that_a_run_refuses(settings, sentence):
    for draw in (
        partial(inspect.unwrap(augment.normalize), PIXELS),
        partial(inspect.unwrap(augment.two_views), jax.random.key(0), PIXELS),
        lambda augment: TrainConfig(augment=augment),
    ):
        with pytest.raises(InputError) as error:
            draw(settings)
        of_flags = str(error.value).replace("--", "").replace("-area", "_area")
        assert of_flags.startswith(sentence)


def test_positions_are_whole_numbers():
    draw, images = inspect.unwrap(augment.two_views), jnp.asarray(PIXELS)
    for positions in (jnp.arange(2.0), [0.0, 1.0], np.ones(2, bool)):
        with pytest.raises(InputError, match="positions are .*; give whole numbers"):
            draw(jax.random.key(0), images, AugmentConfig(), positions=positions)


def test_views_of_images_on_explicit_axes_are_those_of_one_device():
    """Explicit axes are JAX's default for a mesh."""
    images, config = pictures(2, 8, 8), AugmentConfig()
    mesh = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Explicit,))
    spread = jax.device_put(images, NamedSharding(mesh, P("b")))
    key = jax.random.key(0)
    found = two_views(key, spread, config)
    assert found[0].sharding.spec[0] == "b"
    for x, y in zip(found, two_views(key, images, config), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)
    for positions in (None, jnp.arange(2)):  # outside jit
        assert augment._placed(spread, positions).sharding.spec == P("b")


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_one_key_makes_the_views_of_a_batch(make):
    with pytest.raises(InputError, match=r"has shape \(4,\); give one key"):
        keys = jax.random.split(make(0), 4)
        inspect.unwrap(augment.example_keys)(keys, jnp.arange(4))


def test_a_key_of_uint32_gives_the_views_of_the_same_typed_key():
    old, new = jax.random.PRNGKey(5), jax.random.key(5)
    keys = [augment.example_keys(key, jnp.arange(4)) for key in (old, new)]
    assert keys[0].dtype == keys[1].dtype
    np.testing.assert_array_equal(*map(jax.random.key_data, keys))


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_keys_with_which_views_depend_on_other_positions_are_refused(impl):
    pixels = jnp.zeros((2, 8, 8, 3), jnp.uint8)
    with pytest.raises(InputError, match=f"is one of {impl}.*threefry2x32"):
        augment.two_views(jax.random.key(0, impl=impl), pixels, AugmentConfig())


@pytest.mark.parametrize("size", [(8,), (8, 8, 8), (), True, (8, True), 0, 8.0, (8, 0)])
def test_sizes_that_are_none_are_refused(size):
    """The types of the arguments of `two_views` are checked in tests alone."""
    with pytest.raises(InputError, match="size is .*; give a number of pixels"):
        augment._check_size(size)
