"""The ImageNet stem's max-pool, with a gradient that CPUs compute quickly."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

WINDOW, STRIDE = 3, 2


def max_pool(
    x: Float[Array, "b h w c"], padding: str = "SAME"
) -> Float[Array, "b h2 w2 c"]:
    """Largest of 3x3 at stride 2, padded as "SAME" or "SAME_LOWER".

    XLA's gradient is one thread's loop on CPU, as long as the rest of a ResNet-18's
    step. There it is a sum of shifted selections instead, with the same result: of
    equal largest ones the first, by rows, has the gradient.
    """
    return (_on_cpu if jax.default_backend() == "cpu" else _plain)(x, padding)


def _plain(x: Array, padding: str) -> Array:
    return nn.max_pool(x, (WINDOW, WINDOW), (STRIDE, STRIDE), padding)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _on_cpu(x: Array, padding: str) -> Array:
    return _plain(x, padding)


def _forward(x: Array, padding: str) -> tuple[Array, tuple[Array, Array]]:
    y = _plain(x, padding)
    return y, (x, y)


def _backward(padding: str, kept: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    """In padded coordinates window i covers 2i, 2i + 1 and 2i + 2.

    So an odd row belongs to one window, an even row to two: the gradient of each of the
    four parities of rows and columns is a sum of selections of the output's size.
    """
    x, y = kept
    (top, bottom), (left, right) = (_padding(size, padding) for size in x.shape[1:3])
    edges = ((0, 0), (top, bottom), (left, right), (0, 0))
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
    return (whole[:, top : top + x.shape[1], left : left + x.shape[2]],)


def _interleaved(parts: list[Array], axis: int) -> Array:
    """What the windows' first, middle and last places add up to along an axis.

    Even places are the first of one window and the last of the one before.
    """

    def shifted(part: Array, *edges: int) -> Array:
        widths = [(0, 0)] * part.ndim
        widths[axis] = edges
        return jnp.pad(part, widths)

    first, middle, last = parts
    even = shifted(first, 0, 1) + shifted(last, 1, 0)
    both = jnp.stack([even, shifted(middle, 0, 1)], axis + 1)
    return both.reshape(*even.shape[:axis], -1, *even.shape[axis + 1 :])


def _padding(size: int, kind: str) -> tuple[int, int]:
    """Before and after an axis."""
    total = max((-(-size // STRIDE) - 1) * STRIDE + WINDOW - size, 0)
    less, more = total // 2, total - total // 2
    return (less, more) if kind == "SAME" else (more, less)


_on_cpu.defvjp(_forward, _backward)
