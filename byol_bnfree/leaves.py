"""The leaves of a tree, by name."""

from typing import Any

import jax


def by_path(tree: Any, separator: str = "/") -> dict[str, Any]:
    """Return the leaves by their paths, such as "encoder/conv1/kernel", in order."""
    return {
        jax.tree_util.keystr(path, simple=True, separator=separator): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }
