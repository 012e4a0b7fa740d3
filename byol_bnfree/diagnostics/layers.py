"""Measures of every layer: size and variety of its outputs, size of its updates.

They show where training without batch statistics fails: in a layer whose outputs hardly
differ between images, or whose update is far larger or smaller than its neighbours'.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn
from jaxtyping import Array, Float, Float32

from byol_bnfree.leaves import by_path

Tree = dict[str, Any]
Measures = dict[str, Float32[Array, ""]]


def output_measures(
    module: nn.Module, variables: Tree, *inputs: Any
) -> tuple[Array, dict[str, Measures]]:
    """Apply a module to `inputs`; return its output and measures of every layer.

    See `variety` for the measures. Layers come in the order of computation, and their
    names are "block/layer". Under jit they are sorted by name.
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
    """Yield inner layers before the block around them.

    The module has no name itself.
    """
    for name, value in tree.items():
        if name != "__call__":
            yield from _outputs(value, (*above, name))
    if above and "__call__" in tree:
        yield "/".join(above), jnp.asarray(tree["__call__"][0])


def variety(x: Float[Array, "b ..."]) -> Measures:
    """Measure how a layer's outputs differ between images.

    - `rms`: root mean square of the output.
    - `between_images`: the share of the mean square that differs between images of the
      batch, at the same place and channel. It is 0 if the layer ignores its image.
    - `unit_between_images`: the same share after scaling each image's output to length
      1, that is 1 - |mean unit vector|^2. BYOL's loss compares directions only, so this
      is the part of the predictor's output that it sees. Lengths may differ while all
      directions agree.
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
    """Return |update| / |weight| of every layer, for its kernel and for the rest.

    Names are "LAYER/kernel" and "LAYER/bias". The second treats biases, scales and
    offsets as one vector. The ratio is NaN if the weights are zero.
    """
    squares: dict[str, list[Array]] = {}
    leaves = by_path(params).items()
    for (path, weight), update in zip(leaves, jax.tree.leaves(updates), strict=True):
        layer, _, name = path.rpartition("/")
        kind = "kernel" if name == "kernel" else "bias"
        pair = jnp.stack([jnp.sum(jnp.square(x)) for x in (update, weight)])
        squares.setdefault(f"{layer}/{kind}", []).append(pair)
    totals = {name: sum(pairs) for name, pairs in squares.items()}
    return {
        name: jnp.sqrt(jnp.where(total[1] > 0, total[0] / total[1], jnp.nan))
        for name, total in totals.items()
    }


def kernel_norms(tree: Tree) -> dict[str, Float32[Array, ""]]:
    """Return the l2 norm of every layer's kernel, or of its gradient, by layer name."""
    return {
        path.rpartition("/")[0]: jnp.linalg.norm(leaf.astype(jnp.float32).ravel())
        for path, leaf in by_path(tree).items()
        if path.rpartition("/")[2] == "kernel"
    }
