"""Converts trees of arrays to flat dicts with names "a/b/c", and back."""

from typing import Any

import numpy as np

from byol_bnfree.errors import InputError

Flat = dict[str, np.ndarray]


def flat(tree: dict[str, Any], prefix: str = "") -> Flat:
    """Flatten a tree. Names are joined by "/"."""
    found: Flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}/")
        else:
            found[prefix + name] = value
    return found


def nested(leaves: Flat) -> dict[str, Any]:
    """Build the tree from flat names."""
    tree: dict[str, Any] = {}
    for name, value in leaves.items():
        *parents, last = name.split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return tree


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
