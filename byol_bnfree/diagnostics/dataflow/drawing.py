"""Rules for random keys, and for what is drawn with them.

Under `vmap` a key of threefry draws as it does alone. Keys of `rbg` do not: the bits of
a whole batch come from its first key. So do the splits and folds of `unsafe_rbg`.
"""

from typing import Any

from byol_bnfree.diagnostics.dataflow.owners import Owners, combine, merge
from byol_bnfree.diagnostics.dataflow.trace import Site, Value

_SEED, _SPLIT, _FOLD = "random_seed", "random_split", "random_fold_in"
_ALONE = {"key<rbg>": {_SEED, _SPLIT, _FOLD}, "key<urbg>": {_SEED}}
"""What treats each key of a batch as if alone, by dtype. With threefry all do."""


def of_keys(site: Site, inputs: list[Value]) -> list[Owners]:
    """Make numbers or keys from each key: random_bits, random_split."""
    table, rank = _keys(site, inputs[0]), site.equation.outvars[0].aval.ndim
    return [table.reshape(table.shape + (1,) * (rank - table.ndim))]


def fold_in(site: Site, inputs: list[Value]) -> list[Owners]:
    """Fold a number into each key."""
    tables = [value.owners for value in inputs]
    if not _apart(site, site.equation.invars[0].aval.dtype):
        tables = [
            merge(table, tuple(range(table.ndim)), site.mixes) for table in tables
        ]
    return [combine(*tables, site.mixes)]


def seed(site: Site, inputs: list[Value]) -> list[Owners]:
    """Make a key from each number."""
    table = inputs[0].owners
    if not _apart(site, site.equation.outvars[0].aval.dtype):
        table = merge(table, tuple(range(table.ndim)), site.mixes)
    return [table]


def gamma(site: Site, inputs: list[Value]) -> list[Owners]:
    """Draw a number for each element of a shape parameter, with one key or some."""
    key, shape = _keys(site, inputs[0]), inputs[1].owners
    key = key.reshape(key.shape + (1,) * (shape.ndim - key.ndim))
    return [combine(key, shape, site.mixes)]


def _keys(site: Site, keys: Value) -> Owners:
    """Return the owners of keys. All of them are merged if the first one decides."""
    if _apart(site, site.equation.invars[0].aval.dtype):
        return keys.owners
    return merge(keys.owners, tuple(range(keys.owners.ndim)), site.mixes)


def _apart(site: Site, dtype: Any) -> bool:
    """Return True if an equation treats each key of this dtype as if alone."""
    name = str(dtype)
    return name == "key<fry>" or site.equation.primitive.name in _ALONE.get(name, ())
