"""Trees of arrays as flat dicts of "a/b/c" names, and back."""

from typing import Any

import numpy as np

from byol_bnfree.errors import InputError

Flat = dict[str, np.ndarray]


def flat(tree: dict[str, Any], prefix: str = "") -> Flat:
    """Names joined by "/"."""
    found: Flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}/")
        else:
            found[prefix + name] = value
    return found


def nested(leaves: Flat) -> dict[str, Any]:
    """The tree of flat names."""
    tree: dict[str, Any] = {}
    for name, value in leaves.items():
        *parents, last = name.split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return tree


def misfits(found: Flat, wanted: Flat) -> list[str]:
    """One phrase for each leaf that is absent, superfluous or of another shape."""
    phrases = []
    for name in wanted | found:
        here = tuple(wanted[name].shape) if name in wanted else "absent"
        there = tuple(found[name].shape) if name in found else "absent"
        if here != there:
            phrases.append(f"{name} is {there} and should be {here}")
    return phrases


def check_fit(found: Flat, wanted: Flat, what: str) -> None:
    """`InputError` unless both have the same names and shapes."""
    problems = misfits(found, wanted)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(
            f"{what} does not fit the network: {problems[0]}{more}; give the file of "
            f"a network that `create_encoder` can make."
        )
