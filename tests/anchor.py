"""Inputs of the reference figures in tests/golden, and how far ours are from them.

tests/golden/README.md states both rules.
"""

import zlib

import jax
import numpy as np


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform numbers of mean 0 and variance 1, the same on every platform.

    splitmix64 of a counter that starts at the checksum of the name.
    """
    z = np.arange(1, np.prod(shape, dtype=int) + 1, dtype=np.uint64)
    z = z * np.uint64(0x9E3779B97F4A7C15) + np.uint64(zlib.crc32(name.encode()))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    u = ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53
    return ((2 * u - 1) * np.sqrt(3)).reshape(shape)


def parameter(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A kernel, scale or bias by the name that it ends with; float32."""
    x = draw(name, shape)
    kind = name.rsplit("/", 1)[-1]
    values = {
        "kernel": x / np.sqrt(np.prod(shape[:-1])),
        "scale": 1 + 0.3 * x,
        "bias": 0.2 * x,
    }
    return values[kind].astype(np.float32)


def parameters(prefix: str, like) -> dict:
    """A tree of parameters of these shapes."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: parameter(prefix + name_of(path), leaf.shape), like
    )


def name_of(path: tuple) -> str:
    """encoder/conv1/kernel."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def by_name(tree) -> dict[str, np.ndarray]:
    """Leaves of a tree by their names."""
    leaves = jax.tree.leaves_with_path(tree)
    return {name_of(path): np.asarray(leaf, np.float64) for path, leaf in leaves}


def three_numbers(name: str, x: np.ndarray) -> list[float]:
    """Sum, length, and product with a draw, which sees a sign, a swap, a transpose."""
    x = np.asarray(x, np.float64)
    product = np.sum(x * draw(f"dot/{name}", x.shape))
    return [np.sum(x), np.sqrt(np.sum(x * x)), product]


def worst_of_leaves(tree, expected: dict[str, list[float]]) -> float:
    """Largest deviation of the leaves' three numbers, of each leaf's own length.

    A leaf that is nearly 0 beside the others is measured against a thousandth of the
    longest: a bias before a BatchNorm has a gradient of rounding alone.
    """
    found = by_name(tree)
    assert found.keys() == expected.keys()
    longest = max(length for _, length, _ in expected.values())
    worst = 0.0
    for name, leaf in found.items():
        length = max(expected[name][1], longest / 1000)
        scales = np.array([length * np.sqrt(leaf.size), length, length])
        difference = np.subtract(three_numbers(name, leaf), expected[name])
        worst = max(worst, np.abs(difference / scales).max())
    return float(worst)


def worst_of_array(found, expected) -> float:
    """Largest difference over largest value."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())
