"""Converts trees of arrays to flat dicts with names "a/b/c", and back."""

from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from byol_bnfree.errors import InputError

Flat = dict[str, np.ndarray]


def flat(tree: dict[str, Any]) -> Flat:
    """Flatten a tree. Names are joined by "/"."""
    return flatten_dict(tree, sep="/")


def nested(leaves: Flat) -> dict[str, Any]:
    """Build the tree from flat names."""
    return unflatten_dict(leaves, sep="/")


def misfits(found: Flat, wanted: Flat) -> list[str]:
    """Return one phrase per leaf that is missing, superfluous or of another shape."""
    phrases = []
    for name in wanted | found:
        here = tuple(wanted[name].shape) if name in wanted else "absent"
        there = tuple(found[name].shape) if name in found else "absent"
        if here != there:
            phrases.append(f"{name} is {there} and should be {here}")
    return phrases


def check_fit(found: Flat, wanted: Flat, what: str) -> None:
    """Raise `InputError` unless both have the same names and shapes."""
    problems = misfits(found, wanted)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(
            f"{what} does not fit the network: {problems[0]}{more}; give the file of "
            f"a network that `create_encoder` can build."
        )
