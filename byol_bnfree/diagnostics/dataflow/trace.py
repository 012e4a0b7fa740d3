"""The results of following a batch through a program: values and places."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import einops
import flax
import jax
import numpy as np
from jax.extend import source_info_util

from byol_bnfree.diagnostics.dataflow.owners import FREE, Owners

Kind = Literal["mixes", "moves", "unknown"]
Columns = list[np.ndarray | None] | None
"""Of indices [... k]: their k columns, None for each that is unknown."""
_INDEXED = ("gather", "scatter", "dynamic_slice", "dynamic_update_slice")
"""Beginnings of the names of primitives that take an index."""
_HERE = os.path.dirname(os.path.dirname(__file__))
_LIBRARIES = (
    *(os.path.dirname(package.__file__) + os.sep for package in (jax, flax, einops)),
    *(  # frames in these files only call the user's function
        os.path.join(_HERE, f"{name}.py")
        for name in ("derivatives", "independence", "modules", "static")
    ),
)


@dataclass(frozen=True)
class Place:
    """An equation of the program at which examples interact, or may interact."""

    kind: Kind
    """mixes: combines several examples. moves: changes their order. unknown: cannot be
    judged, for instance because an index is known only at run time."""
    primitive: str
    source: str
    """file:line:column (function) of the innermost frame outside of libraries."""
    backward: bool
    """True if the equation computes a gradient."""
    long: bool = False
    """True if it cannot be judged because a loop has too many turns."""

    def __str__(self) -> str:
        place = f"{self.primitive} at {self.source}"
        if self.kind != "unknown":
            return place
        indexed = self.primitive.startswith(_INDEXED)
        reason = "index known only at run time" if indexed else "no rule"
        if self.long:
            reason = "in a loop of many turns"
        return f"{place} ({reason})"


class Value(NamedTuple):
    """The facts that are known about one array of the program."""

    owners: Owners
    number: Callable[[], np.ndarray | None] = lambda: None
    """Returns the array if it is a constant, such as an index; otherwise None."""
    columns: Callable[[], Columns] = lambda: None
    """Returns the columns of an array of which only some are constants."""


class Trace:
    """The places found so far. `places[k]` has the code FREE - 1 - k."""

    def __init__(self):
        self.places: list[Place] = []
        self._codes: dict[tuple[Kind, int, int], int] = {}

    def copy(self) -> "Trace":
        """Return a trace of its own that begins as this one."""
        draft = Trace()
        draft.adopt(self)
        return draft

    def adopt(self, other: "Trace") -> None:
        """Become equal to a later trace."""
        self.places, self._codes = [*other.places], dict(other._codes)

    def doubt(self, known: int, other: "Trace") -> None:
        """Judge places after the first `known` as unknown, if the other lacks them."""
        for index, place in enumerate(self.places[known:], known):
            if place.kind == "mixes" and place not in other.places:
                self.places[index] = replace(place, kind="unknown", long=True)

    def code(self, kind: Kind, site: "Site") -> int:
        """Return the code of a place. The first call makes a new one."""
        key = (kind, id(site.equation), id(site.shown))
        if key not in self._codes:
            primitive = site.equation.primitive.name
            source = source_line(site.shown.source_info)
            self.places.append(Place(kind, primitive, source, site.backward))
            self._codes[key] = FREE - len(self.places)
        return self._codes[key]

    def place(self, code: int) -> Place:
        """Return the place with this code."""
        return self.places[FREE - 1 - code]


class Site(NamedTuple):
    """An equation, and the equation to show for it."""

    trace: Trace
    equation: Any
    shown: Any
    """The equation itself, or the call of the library function that contains it."""
    backward: bool

    def mixes(self) -> int:
        """Return the code of this place as one that combines examples."""
        return self.trace.code("mixes", self)

    def unknown(self) -> int:
        """Return the code of this place as one that cannot be judged."""
        return self.trace.code("unknown", self)


def source_line(info: Any) -> str:
    """Return the innermost frame of the user's code, or of a library if none exists."""
    frames = source_info_util.summarize(info, 50).splitlines()[::-1]
    own = (f for f in frames if not f.strip().startswith(_LIBRARIES))
    return next(own, frames[0] if frames else "").strip() or "an unknown line"
