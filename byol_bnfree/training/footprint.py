"""Estimates the memory of a step from its compiled program, before the first step."""

import math
from typing import Any, NamedTuple

import jax

from byol_bnfree.errors import InputError
from byol_bnfree.memory import machine_bytes

GB = 1e9  # bytes


class Footprint(NamedTuple):
    """Bytes on one device, or on all CPU devices together, which share one memory."""

    state: float
    """Bytes of the state and the batch."""
    temporaries: float
    """Bytes of everything else in a step: activations, gradients, results."""
    limit: float
    """Bytes that are available."""
    batch_size: int
    """Global batch size of the step."""
    devices: int
    """Number of devices that share the batch."""
    micro_batches: int

    @property
    def needed(self) -> float:
        return self.state + self.temporaries

    @property
    def fitting(self) -> int:
        """Estimate the largest global batch that fits; 0 if the state does not fit.

        It assumes that all temporary memory grows with the batch. A part does not, so a
        larger batch may fit.
        """
        of_image = self.temporaries / self.batch_size
        least = self.devices * self.micro_batches
        return max(0, int((self.limit - self.state) / of_image / least) * least)

    @property
    def pieces(self) -> int:
        """Return the fewest micro-batches (a power of two) that fit; 0 if none do."""
        room = (self.limit - self.state) / self.temporaries
        if room <= 0:
            return 0
        pieces = self.micro_batches * 2 ** max(0, math.ceil(math.log2(1 / room)))
        return pieces if pieces * self.devices <= self.batch_size else 0

    def check(self) -> None:
        """Raise `InputError` if a step does not fit, and name settings that would."""
        if self.needed <= self.limit:
            return
        ways = []
        if self.fitting:
            ways.append(f"a batch of about {_rounded(self.fitting)}")
        if self.pieces:
            ways.append(f"--micro-batches={self.pieces}")
        ways.append("--remat or a smaller network")
        raise InputError(
            f"a step needs {_size(self.needed)} ({self._parts()}), but only "
            f"{_size(self.limit)} are available; choose {' or '.join(ways)}."
        )

    def __str__(self) -> str:
        return (
            f"a step needs {_size(self.needed)} of {_size(self.limit)} "
            f"({self._parts()}); a batch of about {_rounded(self.fitting):,} fits"
        )

    def _parts(self) -> str:
        images = self.batch_size // self.micro_batches
        return (
            f"{_size(self.state)} for the state, {_size(self.temporaries)} for "
            f"{images:,} images"
        )


def _size(count: float) -> str:
    """Format bytes in a suitable unit."""
    return f"{count / GB:,.1f} GB" if count >= GB else f"{count / 1e6:,.0f} MB"


def footprint(compiled: Any, program: Any) -> Footprint | None:
    """Return the footprint of a compiled step; None if the backend reports none."""
    found = compiled.memory_analysis()
    if found is None:
        return None
    new = found.output_size_in_bytes - found.alias_size_in_bytes  # donated: free
    device = program.mesh.local_devices[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    sharing = 1 if limit else len(program.mesh.local_devices)
    return Footprint(
        state=found.argument_size_in_bytes * sharing,
        temporaries=max(1, found.temp_size_in_bytes + new) * sharing,
        limit=limit or machine_bytes(),
        batch_size=program.config.batch_size,
        devices=jax.device_count() // program.config.run.model_devices,
        micro_batches=program.config.micro_batches,
    )


def _rounded(number: int) -> int:
    """Round down to two digits."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return number // unit * unit
