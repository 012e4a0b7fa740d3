"""Collects the metrics of many steps in one device array, for a single transfer."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

MOST_ROWS = 128
"""Rows in an array. Full arrays are read even if a run logs more rarely, so that it
ends soon after a number is no longer finite."""


class Rows(NamedTuple):
    """Metrics of consecutive steps, on the device."""

    values: Float[Array, "rows names"]
    names: tuple[str, ...]
    first: int
    """Step of row 0."""
    count: int
    """Number of filled rows."""

    def read(self) -> dict[int, dict[str, float]]:
        """Return the metrics of each step. This waits until they are computed."""
        rows = jax.device_get(self.values)[: self.count].tolist()
        return {
            self.first + index: dict(zip(self.names, row, strict=True))
            for index, row in enumerate(rows)
        }


class Recorder:
    """Collects scalars step by step, and returns at most `every` rows at a time.

    A step costs one small program. Nothing is transferred to or from the host.
    """

    def __init__(self, every: int):
        self._size = min(every, MOST_ROWS)
        self._open: tuple[Array, Array] | None = None
        self._names: tuple[str, ...] = ()
        self._first = self._count = 0

    def take(
        self, step: int, metrics: Mapping[str, Float[Array, ""]], close: bool
    ) -> Rows | None:
        """Keep a step's metrics.

        Return the rows so far if `close` or if they are many.
        """
        if self._open is None:
            self._names, self._first, self._count = tuple(metrics), step, 0
            self._open = _begin(self._size, tuple(metrics.values()))
        else:
            self._open = _add(*self._open, tuple(metrics.values()))
        self._count += 1
        return self.rest() if close or self._count == self._size else None

    def rest(self) -> Rows | None:
        """Return the rows that were not returned yet; None if there are none."""
        if self._open is None:
            return None
        (values, _), self._open = self._open, None
        values.copy_to_host_async()
        return Rows(values, self._names, self._first, self._count)


@partial(jax.jit, static_argnums=0)
def _begin(
    size: int, metrics: tuple[Float[Array, ""], ...]
) -> tuple[Float[Array, "rows names"], Int[Array, ""]]:
    values = jnp.zeros((size, len(metrics)), jnp.float32)
    return values.at[0].set(jnp.stack(metrics)), jnp.int32(1)


@partial(jax.jit, donate_argnums=(0, 1))
def _add(
    values: Float[Array, "rows names"],
    count: Int[Array, ""],
    metrics: tuple[Float[Array, ""], ...],
) -> tuple[Float[Array, "rows names"], Int[Array, ""]]:
    return values.at[count].set(jnp.stack(metrics)), count + 1
