"""Estimates the memory of a step from its compiled program, before the first step."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.machine.launched import place
from byol_bnfree.machine.memory import machine_bytes
from byol_bnfree.training.mesh import check_batch

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
    cuts: tuple[int, ...] = ()
    """Numbers of micro-batches that the run may have, in ascending order."""
    remat: bool = False
    """True if --remat can still be added and would save memory."""
    accumulate: bool = False
    """True if --views.accumulate can still be added."""
    sharing: int = 1
    """Number of devices that share the batch and have a memory of their own."""
    images: int | None = None
    """Number of training images; no batch is larger. None: not known."""

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
        count = max(0, int((self.limit - self.state) / of_image / least) * least)
        # Round down to two digits, but keep a batch that the devices divide, and never
        # advise less than a batch that fits.
        rounded = max(_rounded(count) // least, min(1, count)) * least
        fits = self.needed <= self.limit
        return max(rounded, self.batch_size) if fits else rounded

    @property
    def pieces(self) -> int:
        """Return the fewest micro-batches that fit and are allowed; 0 if none are."""
        room = self.limit - self.state
        of_one = self.temporaries * self.micro_batches
        return next((n for n in self.cuts if of_one / n <= room), 0)

    def check(self, resumed: bool = False) -> None:
        """Raise `InputError` if a step does not fit, and name settings that would.

        A resumed run is refused with another batch or network.
        """
        if self.needed <= self.limit:
            return
        ways = []
        if self.fitting and not resumed:
            ways.append(f"a batch of about {self.fitting}")
        if self.pieces:
            ways.append(f"--micro-batches={self.pieces}")
        ways += ["--views.accumulate"] * self.accumulate
        ways += ["--remat"] * self.remat
        ways.append("more devices or memory" if resumed else "a smaller network")
        raise InputError(
            f"a step needs {_size(self.needed)} ({self._parts()}), but only "
            f"{_size(self.limit)} are available; choose {' or '.join(ways)}."
        )

    def __str__(self) -> str:
        fits = f"batches of up to about {self.fitting:,} fit"
        if self.images is not None and self.fitting >= self.images:
            fits = f"batches of all {self.images:,} images fit"
        return (
            f"a step needs {_size(self.needed)} of {_size(self.limit)} "
            f"({self._parts()}); {fits}"
        )

    def _parts(self) -> str:
        images = self.batch_size // self.micro_batches // self.sharing
        each = " on each device" if self.sharing > 1 else ""
        return (
            f"{_size(self.state)} for the state, {_size(self.temporaries)} for "
            f"{images:,} images{each}"
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
    devices = jax.device_count() // program.config.run.model_devices
    return Footprint(
        state=found.argument_size_in_bytes * sharing,
        temporaries=max(1, found.temp_size_in_bytes + new) * sharing,
        limit=limit or machine_bytes(place(os.environ).count),
        batch_size=program.config.batch_size,
        devices=devices,
        micro_batches=program.config.micro_batches,
        cuts=tuple(_cuts(program)),
        remat=_can_remat(program),
        accumulate=_can_accumulate(program.config),
        sharing=devices if limit else 1,
        images=program.data.num_examples,
    )


def _can_remat(program: Any) -> bool:
    """True if --remat saves memory and is not on yet. On CPUs it saves none."""
    on = program.config.remat or program.network.own_encoder
    return not on and jax.default_backend() != "cpu"


def _can_accumulate(config: TrainConfig) -> bool:
    """True if views can pass one at a time and do not yet. It is exact for any norm."""
    if config.views.accumulate:
        return False
    apart = dataclasses.replace(config.views, accumulate=True)
    with contextlib.suppress(InputError):
        dataclasses.replace(config, views=apart)
        return True
    return False


def _cuts(program: Any) -> Iterator[int]:
    """Yield larger numbers of micro-batches that the run accepts, by powers of two."""
    config, network = program.config, program.network
    if network.own_encoder and "encoder" in program.abstract_state.online_stats:
        return
    pieces = 2 * config.micro_batches
    while pieces <= config.batch_size:
        with contextlib.suppress(InputError):
            cut = dataclasses.replace(config, micro_batches=pieces)
            check_batch(cut, program.mesh)
            yield pieces
        pieces *= 2


def _rounded(number: int) -> int:
    """Round down to two digits."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return number // unit * unit
