"""Says when the representation of a running training collapses, and may end the run."""

from collections.abc import Callable
from typing import Any

from byol_bnfree.diagnostics.usual import usual
from byol_bnfree.diagnostics.verdict import CollapseWatch, update_watch
from byol_bnfree.errors import RunStopped
from byol_bnfree.settings.norms import part_norms
from byol_bnfree.training.program import Program

MEASURES = ("feature_std", "positive_cosine", "negative_cosine", "centered_rank")
COLLAPSED = 3
"""Exit status of a run that --on-collapse=stop ended. It is a result, not an error."""


class Collapsed(RunStopped):
    """The representation collapsed, and --on-collapse=stop was given."""


class Judge:
    """Follows the collapse measures from row to row. `watch` is the state so far."""

    def __init__(self, program: Program, say: Callable[[str], None]):
        self._program, self._say = program, say
        self.watch = CollapseWatch()

    def judge(self, step: int, row: dict[str, Any]) -> None:
        """Take a new row into account. If the verdict changes, say so.

        Raises:
          Collapsed: if the representation is collapsed under --on-collapse=stop. It may
            have collapsed in an earlier part of the run.
        """
        before = self.watch.verdict.state
        self.see(step, row)
        verdict, config = self.watch.verdict, self._program.config
        if verdict.state != before:
            self._say_change(step, before)
        # A resumed run starts with the verdict of its log, so this is no change there.
        if verdict.state == "collapsed" and config.on_collapse == "stop":
            raise Collapsed(
                f"the representation collapsed at step {self.watch.collapsed.since} "
                f"({verdict.reason}); stopped because of --on-collapse=stop.",
                status=COLLAPSED,
            )

    def _say_change(self, step: int, before: str) -> None:
        verdict = self.watch.verdict
        if verdict.state == "healthy":
            self._say(f"step {step}: no longer {before}.")
            return
        collapsed = verdict.state == "collapsed"
        since = (self.watch.collapsed if collapsed else self.watch.drifting).since
        self._say(
            f"step {step}: {verdict.state} since step {since}: {verdict.reason}. "
            f"{usual(part_norms(self._program.config))}"
        )

    def see(self, step: int, row: dict[str, Any]) -> None:
        """Take a row into account silently, as one of an earlier part of the run."""
        measures = {name: row.get(f"collapse/{name}") for name in MEASURES}
        if measures["feature_std"] is None:
            return  # this row comes from an evaluation
        if step == 1:  # its metrics were measured before the first update
            self.watch = self.watch._replace(untrained=measures)
        self.watch = update_watch(
            self.watch, step, measures, warmup_steps=self._program.warmup_steps
        )
