"""When the state is saved: every so many steps, and every so many seconds."""

import time

import jax

from byol_bnfree.training.distributed import spread
from byol_bnfree.training.journal import AHEAD
from byol_bnfree.training.program import Program


class SaveTimer:
    """Says if a step is saved, alike in all processes. Ask after every step.

    With several processes the clock of process 0 decides, at logged steps. Its decision
    travels over the devices, behind the steps that they have to do. It is read `AHEAD`
    steps later, when the journal has waited for that step anyway, so the devices do not
    run out of work.
    """

    def __init__(self, program: Program):
        self._program = program
        self._last = time.monotonic()
        self._asked: tuple[int, jax.Array] | None = None
        """The step to read a decision at, and the decision."""

    def due(self, step: int) -> bool:
        """Return True if the state is saved after `step` steps."""
        every = self._program.config.run.checkpoint_steps
        by_count = every > 0 and step % every == 0
        if not (by_count or self._by_clock(step)):
            return False
        self._last, self._asked = time.monotonic(), None
        return True

    def _by_clock(self, step: int) -> bool:
        seconds = self._program.config.run.checkpoint_seconds
        late = time.monotonic() - self._last >= seconds
        if self._program.processes == 1:
            return late
        if self._asked is None:
            if self._program.is_logged(step):
                self._asked = step + AHEAD, spread(late)
            return False
        at, decision = self._asked
        if step < at:
            return False
        self._asked = None
        return bool(decision)
