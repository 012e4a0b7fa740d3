"""The max-pool of the ImageNet stem, with a gradient of shifted selections.

XLA's gradient on CPUs is a loop on one thread. It takes as long as the rest of a
ResNet-18's step. On GPUs it is a scatter, whose sums have no fixed order. Here the
gradient is a sum of shifted selections, with the same result.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from byol_bnfree.models.kernels import XLA

WINDOW, STRIDE = 3, 2  # of the ImageNet stem
Padding = tuple[tuple[int, int], tuple[int, int]]


def max_pool(
    x: Float[Array, "b h w c"], padding: str | Padding = "SAME"
) -> Float[Array, "b h2 w2 c"]:
    """Act as `models.kernels.max_pool`."""
    if isinstance(padding, str):
        sizes, strides = (WINDOW, WINDOW), (STRIDE, STRIDE)
        padding = lax.padtype_to_pads(x.shape[1:3], sizes, strides, padding)
    padding = tuple((low, high) for low, high in padding)
    if min(sum(padding, ())) < 0:
        return XLA.max_pool(x, padding)
    return _max_pool(x, padding)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: Array, padding: Padding) -> Array:
    return XLA.max_pool(x, padding)


def _forward(x: Array, padding: Padding) -> tuple[Array, tuple[Array, Array]]:
    y = XLA.max_pool(x, padding)
    return y, (x, y)


def _backward(
    padding: Padding, kept: tuple[Array, Array], gradient: Array
) -> tuple[Array]:
    """Return the gradient with respect to x.

    In padded coordinates window i covers rows 2i, 2i + 1 and 2i + 2. An odd row belongs
    to one window and an even row to two. So for each of the four parities of rows and
    columns, the gradient is a sum of selections of the output's size. `taken` gives the
    gradient to the first of equal pixels.
    """
    x, y = kept
    edges = ((0, 0), *padding, (0, 0))
    # -inf, as the forward pass pads: an edge is no maximum.
    padded = jnp.pad(x, edges, constant_values=-jnp.inf)
    rows, columns = y.shape[1:3]
    taken, selected = jnp.zeros(y.shape, bool), {}
    for i in range(WINDOW):
        for j in range(WINDOW):
            part = padded[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2]
            hit = (part == y) & ~taken
            taken |= hit
            selected[i, j] = jnp.where(hit, gradient, 0)

    in_rows = [
        _interleaved([selected[i, j] for j in range(WINDOW)], axis=2)
        for i in range(WINDOW)
    ]
    whole = _interleaved(in_rows, axis=1)
    # Without "SAME" padding no window may cover the last row or column.
    missed = [
        (0, max(size - covered, 0))
        for size, covered in zip(padded.shape, whole.shape, strict=True)
    ]
    (top, _), (left, _) = padding
    whole = jnp.pad(whole, missed)
    return (whole[:, top : top + x.shape[1], left : left + x.shape[2]],)


def _interleaved(parts: list[Array], axis: int) -> Array:
    """Sum the first, middle and last places of the windows along an axis.

    An even place is the first place of one window and the last of the window before it.
    """

    def shifted(part: Array, *edges: int) -> Array:
        widths = [(0, 0)] * part.ndim
        widths[axis] = edges
        return jnp.pad(part, widths)

    first, middle, last = parts
    even = shifted(first, 0, 1) + shifted(last, 1, 0)
    both = jnp.stack([even, shifted(middle, 0, 1)], axis + 1)
    return both.reshape(*even.shape[:axis], -1, *even.shape[axis + 1 :])


_max_pool.defvjp(_forward, _backward)
