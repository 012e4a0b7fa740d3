"""What each layer does on a batch: size and variety of its outputs, sizes of gradients.

A layer whose outputs hardly differ between images, or whose gradient is far from that
of its neighbours, is where a network without batch statistics goes wrong.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float32

Tree = dict[str, Any]
Measures = dict[str, Float32[Array, ""]]


def output_measures(
    module: nn.Module, variables: Tree, *inputs: Any
) -> tuple[Array, dict[str, Measures]]:
    """The module's output on `inputs`, and two numbers of every layer inside, by name.

    - `rms`: root of the mean square of the layer's output.
    - `between_images`: the part of that mean square that differs between the images of
      the batch, at the same place and channel; 0 is a layer that ignores its image.

    Layers are in the order in which they are done; names are "block/layer". Under jit
    the result's order is that of the names.
    """
    output, state = module.apply(
        variables,
        *inputs,
        capture_intermediates=True,
        mutable=["intermediates", "batch_stats"],
    )
    return output, {
        name: _measure(value)
        for name, value in _outputs(state["intermediates"])
        if value.ndim > 1
    }


def _outputs(tree: Tree, above: tuple[str, ...] = ()) -> Iterator[tuple[str, Array]]:
    """Inner layers before the block that holds them; the module itself has no name."""
    for name, value in tree.items():
        if name not in ("__call__", "normalized"):
            yield from _outputs(value, (*above, name))
    if above and "__call__" in tree:
        yield "/".join(above), tree.get("normalized", tree["__call__"])[0]


def _measure(x: Array) -> Measures:
    x = x.astype(jnp.float32)
    square = jnp.mean(jnp.square(x))
    between = jnp.mean(jnp.var(x, axis=0))
    return {
        "rms": jnp.sqrt(square),
        "between_images": between / jnp.maximum(square, 1e-30),
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
