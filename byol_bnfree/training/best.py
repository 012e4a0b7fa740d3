"""RUN/best: a work folder that holds the checkpoint with the best kNN accuracy."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from byol_bnfree.errors import InputError
from byol_bnfree.files import read_json, write_atomically, write_json
from byol_bnfree.training.changes import compare_config
from byol_bnfree.training.distributed import labelled

FILES = ("config.json", "dataset.json", "environment.json")


class Best:
    """Keeps RUN/best up to date. `load_encoder(RUN/best)` reads its encoder.

    Every process calls `beaten` at the same steps. Only process 0 calls `take`.
    """

    def __init__(
        self, workdir: Path, measured: dict[str, float], say: Callable[[str], None]
    ):
        """Read the best figure of an earlier part of the run.

        Figures that were measured in another way are not compared: `say` gets a
        sentence, and the next figure is the best so far.

        Args:
          workdir: the run's folder.
          measured: images and settings of the kNN accuracy.
          say: prints a line.
        """
        self._workdir, self._folder = workdir, workdir / "best"
        self._measured, self._top1 = measured, -1.0
        earlier = read_json(self._folder / "best.json")
        if earlier is None:
            return
        how = earlier.get("measured", {})
        if not (isinstance(how, dict) and isinstance(earlier.get("knn/top1"), float)):
            raise InputError(
                f"{self._folder / 'best.json'} is not that of a run; restore or delete "
                f"it."
            )
        differing = compare_config(how, measured, frozenset())
        if differing:
            note = (
                f"{self._folder} begins again, because its kNN accuracy was measured "
                f"in another way ({'; '.join(differing)})"
            )
            say(labelled("note", note))
        else:
            self._top1 = earlier["knn/top1"]

    def beaten(self, figures: dict[str, float]) -> bool:
        """Return True if these figures beat the best so far, and remember them."""
        top1 = figures["knn/top1"]
        better = top1 > self._top1
        self._top1 = max(top1, self._top1)
        return better

    def take(self, step: int) -> None:
        """Copy the saved checkpoint of a step to RUN/best; delete the one before it."""
        checkpoints = self._folder / "checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            if (self._workdir / name).exists():
                content = (self._workdir / name).read_bytes()
                write_atomically(self._folder / name, content)
        # A kill leaves either the old checkpoint or the whole new one, because the copy
        # gets its final name only when it is complete.
        unfinished = checkpoints / f"unfinished-{step}"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(
            self._workdir / "checkpoints" / str(step), unfinished, copy_function=_link
        )
        older = [p for p in checkpoints.iterdir() if p.name != unfinished.name]
        shutil.rmtree(checkpoints / str(step), ignore_errors=True)
        unfinished.rename(checkpoints / str(step))
        for path in older:
            if path.name != str(step):
                shutil.rmtree(path)
        figures = {"step": step, "knn/top1": self._top1, "measured": self._measured}
        write_json(self._folder / "best.json", figures)


def _link(source: str, target: str) -> None:
    """Hard-link the file; copy it where the disk has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
