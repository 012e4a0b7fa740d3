"""The progress of a run: a bar on a terminal, plain lines elsewhere."""

import contextlib
import datetime
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.text import Text

from byol_bnfree.errors import output_closed

_FORMATS: Mapping[str, Callable[[Any], str]] = {
    "epoch": lambda epoch: f"epoch {epoch:.1f}",
    "loss": lambda loss: f"loss {loss:.3f}",
    "knn": str,  # from `measured`
    "probe": lambda top1: f"probe {100 * top1:.1f} % (views)",
    "collapse": str,
    "images_per_s": lambda rate: f"{rate:.0f} images/s",
    "seconds_left": lambda x: f"{datetime.timedelta(seconds=round(x))} left",
}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raise an error. rich would exit at once, but a run must save first."""
        raise output_closed()


class _Work:
    """A long task: its name, its start, and a turning spinner."""

    def __init__(self, what: str, began: float):
        self.what, self.began, self.spinner = what, began, Spinner("dots")


class Progress:
    """Shows how far a run is. `progress` makes it."""

    def __init__(self, total: int, start: int, seconds: float, console: Console):
        self._total, self._seconds, self._console = total, seconds, console
        self._step, self._line = start, f"step {start}/{total}"
        self._knn: tuple[int, float] | None = None  # with the step it is of
        self._printed_at, self._held_back = -math.inf, False
        self._work: _Work | None = None
        self.live: Live | None = None

    def update(self, step: int, fields: Mapping[str, Any]) -> None:
        """Show `step` and some fields. Each may be missing or None.

        The fields are `epoch`, `loss`, `probe` (an accuracy in [0, 1]), `collapse` (one
        word), `images_per_s` and `seconds_left`. Plain lines appear at the first and
        the last step and every `seconds`.
        """
        now = time.monotonic()
        self._step, self._line = step, self._describe(step, fields)
        self._held_back = now - self._printed_at < self._seconds and step < self._total
        if self.live is not None:
            self.live.update(self.render())
        elif not self._held_back:
            self._printed_at = now
            self._knn = None  # it is shown, and would be old in the next line
            self.say(self._line)

    def measured(self, step: int, figures: Mapping[str, float]) -> None:
        """Show kNN (`knn/top1` in [0, 1]) in the bar, or in the next plain line."""
        if "knn/top1" in figures:
            self._knn = step, figures["knn/top1"]

    def say(self, text: str) -> None:
        """Print a message. On a terminal it appears above the bar."""
        line = Text(text)  # as it is: a name may look like markup or an emoji
        self._console.print(line, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show that a long task is running and, at its end, how long it took.

        On a terminal a spinner turns and the seconds count.
        """
        began = time.monotonic()
        self._work = _Work(what, began)
        if self.live is None:
            self.say(f"{what} ...")
        else:
            self.live.update(self)
        try:
            yield
        finally:
            self._work = None
            if self.live is not None:
                self.live.update(self.render())
        self.say(f"{what}: {time.monotonic() - began:.0f} s")

    def __rich__(self) -> Group:
        """Return a new drawing at every refresh, so the spinner turns."""
        return self.render()

    def finish(self) -> None:
        """Print the last line if it was held back, as when a run is interrupted."""
        if self._held_back and self.live is None:
            self.say(self._line)

    def render(self) -> Group:
        """Return the line and the bar below it, for rich to draw."""
        if self._work is not None:
            seconds = time.monotonic() - self._work.began
            self._work.spinner.update(text=f"{self._work.what}  {seconds:.0f} s")
            return Group(self._work.spinner)
        line = Text(self._line)  # in a narrow terminal it has two lines
        return Group(line, ProgressBar(self._total, self._step))

    def _describe(self, step: int, fields: Mapping[str, Any]) -> str:
        parts = [f"step {step}/{self._total}"]
        fields = {**fields, "knn": self._describe_knn(step)}
        for key, show in _FORMATS.items():
            if fields.get(key) is not None:
                parts.append(show(fields[key]))
        return "  ".join(parts)

    def _describe_knn(self, step: int) -> str | None:
        """Say of which step kNN is, if it is not of this one."""
        if self._knn is None:
            return None
        measured_at, top1 = self._knn
        older = f" (step {measured_at})" if measured_at != step else ""
        return f"kNN {100 * top1:.1f} %{older}"


@contextlib.contextmanager
def progress(
    total: int,
    start: int = 0,
    *,
    seconds: float = 10.0,
    primary: bool = True,
    console: Console | None = None,
) -> Iterator[Progress]:
    """Show the progress of a run of `total` steps that begins at step `start`.

    Args:
      total: steps of the whole run.
      start: steps that an earlier part of the run has done.
      seconds: smallest time between two plain lines.
      primary: True in the process that prints.
      console: where to print; standard output by default.
    """
    console = console or _Console(quiet=not primary)
    shown = Progress(total, start, seconds, console)
    if not (primary and console.is_terminal):
        try:
            yield shown
        finally:
            shown.finish()
        return
    with Live(shown.render(), console=console, refresh_per_second=4) as shown.live:
        yield shown
