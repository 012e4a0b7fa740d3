"""Numbers of every layer: size and variety of its outputs, sizes of its updates.

A layer whose outputs hardly differ between images, or whose update is far from that of
its neighbours, is where a network without batch statistics goes wrong.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn
from jaxtyping import Array, Float, Float32

Tree = dict[str, Any]
Measures = dict[str, Float32[Array, ""]]


def output_measures(
    module: nn.Module, variables: Tree, *inputs: Any
) -> tuple[Array, dict[str, Measures]]:
    """The module's output on `inputs`, and numbers of every layer inside, by name.

    See `variety` for the numbers. Layers are in the order in which they are done; names
    are "block/layer". Under jit the result's order is that of the names.
    """
    output, state = module.apply(
        variables,
        *inputs,
        capture_intermediates=True,
        mutable=["intermediates", "batch_stats"],
    )
    return output, {
        name: variety(value)
        for name, value in _outputs(state["intermediates"])
        if value.ndim > 1
    }


def _outputs(tree: Tree, above: tuple[str, ...] = ()) -> Iterator[tuple[str, Array]]:
    """Inner layers before the block that holds them; the module itself has no name."""
    for name, value in tree.items():
        if name != "__call__":
            yield from _outputs(value, (*above, name))
    if above and "__call__" in tree:
        yield "/".join(above), jnp.asarray(tree["__call__"][0])


def variety(x: Float[Array, "b ..."]) -> Measures:
    """The differences between images in a layer's outputs.

    - `rms`: root of the mean square of the output.
    - `between_images`: the share of that mean square that differs between the images of
      the batch, at the same place and channel; 0 is a layer that ignores its image.
    - `unit_between_images`: the same share after the output of every image is scaled to
      length 1, which is 1 - |mean unit vector|^2. BYOL's loss compares directions, so
      this share is all that it sees of the predictor's output: lengths may differ while
      all directions agree.
    """
    x = x.astype(jnp.float32)
    square = jnp.mean(jnp.square(x))
    flat = rearrange(x, "b ... -> b (...)")
    lengths = jnp.linalg.norm(flat, axis=1, keepdims=True)
    unit = flat / jnp.maximum(lengths, 1e-30)
    return {
        "rms": jnp.sqrt(square),
        "between_images": jnp.mean(jnp.var(x, axis=0)) / jnp.maximum(square, 1e-30),
        "unit_between_images": jnp.sum(jnp.var(unit, axis=0))
        / jnp.maximum(jnp.mean(jnp.sum(jnp.square(unit), axis=1)), 1e-30),
    }


def update_ratios(params: Tree, updates: Tree) -> dict[str, Float32[Array, ""]]:
    """|update| / |weight| of every layer, for its kernel and for all else it has.

    Names are "LAYER/kernel" and "LAYER/bias"; the second counts biases, scales and
    offsets as one vector. A vector that is still zero has ratio NaN.
    """
    squares: dict[str, list[Array]] = {}
    leaves = jax.tree.leaves_with_path(params)
    for (path, weight), update in zip(leaves, jax.tree.leaves(updates), strict=True):
        kind = "kernel" if path[-1].key == "kernel" else "bias"
        layer = jax.tree_util.keystr(path[:-1], simple=True, separator="/")
        pair = jnp.stack([jnp.sum(jnp.square(x)) for x in (update, weight)])
        squares.setdefault(f"{layer}/{kind}", []).append(pair)
    totals = {name: sum(pairs) for name, pairs in squares.items()}
    return {
        name: jnp.sqrt(jnp.where(total[1] > 0, total[0] / total[1], jnp.nan))
        for name, total in totals.items()
    }


def kernel_norms(tree: Tree) -> dict[str, Float32[Array, ""]]:
    """The l2 norm of every layer's kernel, or of its gradient, by the layer's name."""
    return {
        jax.tree_util.keystr(path[:-1], simple=True, separator="/"): jnp.linalg.norm(
            leaf.astype(jnp.float32).ravel()
        )
        for path, leaf in jax.tree.leaves_with_path(tree)
        if path[-1].key == "kernel"
    }
