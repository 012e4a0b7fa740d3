"""Features of chosen images from a frozen encoder, in the order of their indices."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, Sharding
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, UInt8

from byol_bnfree.data.pipeline import global_array, local_rows, made_ahead
from byol_bnfree.data.sources import Source
from byol_bnfree.encoder import Encoder
from byol_bnfree.errors import InputError
from byol_bnfree.represent import represent
from byol_bnfree.training.mesh import (
    batch_sharding,
    make_mesh,
    replicated,
    whole_multiple,
)


class NotFinite(InputError):
    """An encoder gives infinite features or NaN."""


def evaluation_indices(n: int, limit: int, seed: int) -> Int[np.ndarray, " m"]:
    """Return range(n), or a random subset of `limit` fixed by `seed`; sorted."""
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, limit, replace=False))


def first_images(source: Any, count: int) -> UInt8[np.ndarray, "b h w c"]:
    """Return the first `count` images of a source, without those that are bad.

    Folders are sorted by class, so their first images are of one class. Of such a
    source images at equal distances are taken.
    """
    rows = np.arange(min(count, len(source)))
    labels = source.labels(rows)  # -1, or rows of them, for pictures of no single class
    one_each = labels.ndim == 1 and (labels >= 0).all()
    if one_each and (np.diff(labels) >= 0).all():
        rows = np.linspace(0, len(source) - 1, len(rows)).astype(int)
    rows = source.usable(rows)
    if not len(rows):  # all of them are bad, so those after them are tried
        rows = source.usable(np.arange(len(source)))[:count]
    return source.images(rows)


def encoder_features(
    encoder: Encoder,
    source: Any,
    mesh: Mesh | None = None,
    *,
    batch_size: int = 512,
    dtype: DTypeLike = np.float32,
) -> Float[np.ndarray, "n d"]:
    """Compute the representations of all images, whole and in inference mode.

    Args:
      encoder: the encoder.
      source: has `len(source)` and `images(indices) -> uint8 [b h w c]`. Two threads
        may call it at a time.
      mesh: devices that share a batch along their axis `data`; None takes all devices.
      batch_size: images per step, rounded up to a multiple of that axis. A source
        with fewer images is one step.
      dtype: of the result.

    Returns:
      Features [n d] in the order of the source.

    Raises:
      InputError: if a feature is not finite.
    """
    mesh = mesh or make_mesh()
    variables = jax.device_put(encoder.variables, replicated(mesh))
    augment = encoder.config.augment
    encode = partial(_represent, encoder.module, variables, augment=augment)
    batch_size = min(batch_size, len(source))  # more would be padding
    return extract_features(
        encode,
        source,
        np.arange(len(source)),
        whole_multiple(batch_size, mesh.shape["data"]),
        sharding=batch_sharding(mesh),
        dtype=dtype,
    )


def feature_width(encoder: Encoder, source: Source) -> int:
    """Return the number of features d that the encoder gives for an image."""
    image = jnp.zeros((1, *source.image_shape))
    return jax.eval_shape(lambda x: encoder(x), image).shape[1]


_represent = jax.jit(represent, static_argnums=0, static_argnames="augment")


def extract_features(
    encode: Callable[[UInt8[Array, "b h w c"]], Float[Array, "b d"]],
    source: Any,
    indices: Int[np.ndarray, " n"],
    batch_size: int,
    *,
    sharding: Sharding | None = None,
    dtype: DTypeLike = np.float32,
) -> Float[np.ndarray, "n d"]:
    """Apply `encode` to `source.images(indices)` in batches of one fixed size.

    Two threads read batches while the device works on an earlier one: the workers that
    decode begin a batch before the one ahead of it is done. The last batch is padded
    with zero images, so a jitted `encode` compiles once.

    Args:
      encode: a jitted function from uint8 images to features of any float dtype. Each
        feature may depend on its own image only (BatchNorm in inference mode),
        otherwise the zero images would change it.
      source: has `images(indices) -> uint8 [b h w c]`. Two threads may call it at a
        time.
      indices: the images to encode.
      batch_size: global batch size; the devices must divide it.
      sharding: distribution of a batch over devices, such as `NamedSharding(mesh,
        P("data"))`. Several processes require it: each reads its own rows, and all get
        all features.
      dtype: of the result. It exists once: 1.28 million features of 2048 numbers are
        10.5 GB in float32 and 5.2 GB in float16.

    Returns:
      Features [n d].

    Raises:
      InputError: if there is nothing to encode, or features are too large for `dtype`
        (float16 ends at 65,504).
      NotFinite: if a feature is not finite.
    """
    if len(indices) == 0:
        raise InputError("There are 0 images to encode; give at least 1.")
    starts, features, finite = range(0, len(indices), batch_size), None, True
    read = partial(_read_batch, source, indices, batch_size, sharding)
    encoded = map(encode, made_ahead(read, starts, 1))
    for start, done in zip(starts, _one_late(encoded), strict=True):
        rows = _to_host(done, sharding)[: len(indices) - start]
        finite = finite and bool(np.isfinite(rows).all())
        # Only the first batch tells how many features there are.
        if features is None:
            features = np.empty((len(indices), rows.shape[1]), dtype)
        with np.errstate(over="ignore"):  # reported below
            features[start : start + batch_size] = rows
    _check_finite(features, finite)
    return features


def _one_late(arrays: Iterator[Array]) -> Iterator[Array]:
    """Yield each array after the next was requested, so the device is never idle."""
    before = next(arrays)
    for array in arrays:
        yield before
        before = array
    yield before


def _read_batch(
    source: Any,
    indices: np.ndarray,
    batch_size: int,
    sharding: Sharding | None,
    start: int,
) -> UInt8[Array, "b h w c"] | UInt8[np.ndarray, "b h w c"]:
    indices = indices[start : start + batch_size]
    if sharding is None:
        return _read_rows(source, indices, np.arange(batch_size))
    mine = local_rows(sharding, batch_size)
    images = _read_rows(source, indices, mine)
    return global_array(images, mine, sharding, batch_size)


def _read_rows(
    source: Any, indices: np.ndarray, rows: np.ndarray
) -> UInt8[np.ndarray, "b h w c"]:
    """Read these rows of a batch. Rows beyond the last image are zero."""
    real = rows[rows < len(indices)]
    # Even a process with padding only needs to know the shape of an image.
    images = source.images(indices[real] if len(real) else indices[:1])
    batch = np.zeros((len(rows), *images.shape[1:]), np.uint8)
    batch[: len(real)] = images[: len(real)]
    return batch


def _to_host(
    features: Float[Array, "b d"], sharding: Sharding | None
) -> Float[np.ndarray, "b d"]:
    if sharding is not None and jax.process_count() > 1:
        features = multihost_utils.process_allgather(features, tiled=True)
    return np.asarray(features, np.float32)


def _check_finite(features: Float[np.ndarray, "n d"], before: bool) -> None:
    """Raise an error for features that are not finite.

    `before` is True if they all were finite in float32.
    """
    # In blocks, because a mask of the whole array would need as much memory.
    blocks = (features[i : i + 4096] for i in range(0, len(features), 4096))
    bad = sum(int((~np.isfinite(block).all(axis=1)).sum()) for block in blocks)
    if bad and before:
        raise InputError(
            f"The features of {bad} of {len(features)} images are too large for "
            f"{features.dtype}; leave out --half-precision (dtype=float32)."
        )
    if bad:
        raise NotFinite(
            f"The encoder gives features that are not finite for {bad} of "
            f"{len(features)} images; use a checkpoint from before it diverged."
        )
