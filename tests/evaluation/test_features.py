"""Features come back complete, in order, and from one compilation."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.features import (
    NotFinite,
    evaluation_indices,
    extract_features,
)
from byol_bnfree.models.encoders import create_encoder
from byol_bnfree.models.norm import NORMS

IMAGES = np.random.default_rng(0).integers(0, 256, (11, 4, 4, 3), np.uint8)
DIRECT = IMAGES.astype(np.float32).mean(axis=(1, 2))


class Source:
    def images(self, indices):
        return IMAGES[indices]


@jax.jit
def encode(images):
    return jnp.mean(images.astype(jnp.float32), axis=(1, 2))


@pytest.mark.parametrize("batch_size", [1, 4, 11, 16])
def test_features_of_a_filled_batch_equal_direct_ones(batch_size):
    features = extract_features(encode, Source(), np.arange(11), batch_size)
    np.testing.assert_allclose(features, DIRECT, rtol=1e-6)


def test_features_are_in_the_order_of_the_indices():
    chosen = np.array([7, 2, 9, 2, 0])
    features = extract_features(encode, Source(), chosen, 2)
    np.testing.assert_allclose(features, DIRECT[chosen], rtol=1e-6)


def test_a_batch_is_read_before_the_one_ahead_of_it_is_done():
    both = threading.Barrier(2, timeout=60)

    class Waiting(Source):
        def images(self, indices):
            both.wait()
            return super().images(indices)

    features = extract_features(encode, Waiting(), np.arange(8), 2)
    np.testing.assert_allclose(features, DIRECT[:8], rtol=1e-6)


def test_encoder_is_compiled_once():
    traces = []

    @jax.jit
    def counted(images):
        traces.append(images.shape)
        return encode(images)

    extract_features(counted, Source(), np.arange(11), 4)
    assert traces == [(4, 4, 4, 3)]


def test_features_over_two_devices_equal_direct_ones():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    devices = []

    def watched(images):
        devices.append(images.sharding.device_set)
        return encode(images)

    features = extract_features(watched, Source(), np.arange(11), 8, sharding=sharding)
    np.testing.assert_allclose(features, DIRECT, rtol=1e-6)
    assert all(len(used) == 2 for used in devices)


def test_bfloat16_features_become_float32():
    half = extract_features(
        lambda images: encode(images).astype(jnp.bfloat16), Source(), np.arange(11), 4
    )
    assert half.dtype == np.float32


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="11 of 11 images"):
        extract_features(
            lambda images: encode(images) * jnp.nan, Source(), np.arange(11), 4
        )


@pytest.mark.filterwarnings("error")
def test_features_that_only_float16_cannot_hold_are_not_blamed_on_divergence():
    def large(images):
        return 1e5 + encode(images)

    extract_features(large, Source(), np.arange(11), 4)
    with pytest.raises(InputError, match="11 of 11 .*float16; leave out --half-prec"):
        extract_features(large, Source(), np.arange(11), 4, dtype=np.float16)
    with pytest.raises(NotFinite, match="diverged"):
        extract_features(
            lambda images: encode(images) / 0, Source(), np.arange(11), 4, dtype="f2"
        )


def test_no_image_is_refused():
    with pytest.raises(InputError, match="0 images"):
        extract_features(encode, Source(), np.arange(0), 4)


def test_a_broken_image_is_raised_from_the_reading_thread():
    class Broken(Source):
        def images(self, indices):
            if 6 in indices:
                raise InputError("picture 6 is truncated")
            return super().images(indices)

    with pytest.raises(InputError, match="picture 6"):
        extract_features(encode, Broken(), np.arange(11), 4)


def test_a_limited_evaluation_uses_a_fixed_sorted_subset_without_repeats():
    chosen = evaluation_indices(100, 60, seed=3)
    assert len(chosen) == 60 and np.all(np.diff(chosen) > 0)
    np.testing.assert_array_equal(chosen, evaluation_indices(100, 60, seed=3))
    assert not np.array_equal(chosen, evaluation_indices(100, 60, seed=4))


def test_all_images_are_used_below_the_limit():
    np.testing.assert_array_equal(evaluation_indices(5, 10, seed=0), np.arange(5))


def test_float16_features_are_kept_in_float16():
    half = extract_features(encode, Source(), np.arange(11), 4, dtype=np.float16)
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, DIRECT, rtol=1e-3)


@pytest.mark.parametrize("norm", NORMS)
def test_batch_composition_changes_no_feature_in_inference_mode(norm):
    images, others = jax.random.normal(jax.random.key(0), (2, 3, 8, 8, 3))
    encoder = create_encoder("resnet14", norm=norm, width=0.25, stem="small")
    variables = encoder.init(jax.random.key(1), images, True)
    apply = jax.jit(lambda x: encoder.apply(variables, x, False))
    mixed = apply(jnp.concatenate([images[:1], others[1:]]))
    np.testing.assert_allclose(mixed[0], apply(images)[0], rtol=1e-5, atol=1e-6)
