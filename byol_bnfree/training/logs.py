"""Logs of a run: metrics.jsonl and TensorBoard events."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, SupportsFloat

from byol_bnfree.errors import InputError, why_not_written
from byol_bnfree.files import append_whole, strict, write_atomically
from byol_bnfree.training.boards import TensorBoard

Row = dict[str, Any]


class CallerFailed(Exception):
    """The caller's row function raised an error, which is this error's cause."""


class MetricsLog:
    """Metrics in `workdir/metrics.jsonl` and `workdir/tensorboard`.

    A row is written whole or not at all. A line that a kill or a full disk cut short is
    dropped. NaN and infinities become null, because strict JSON has no such numbers.
    Only the process with `primary` writes. It calls `on_row` after each row.
    """

    def __init__(
        self,
        workdir: Path,
        primary: bool = True,
        on_row: Callable[[Row], None] | None = None,
    ):
        self._path = workdir / "metrics.jsonl"
        self._tensorboard = TensorBoard(workdir / "tensorboard")
        self._primary, self._on_row = primary, on_row
        if primary:
            self._rewrite(_whole_lines(self._path))

    def write(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Append a row and flush it.

        Raises:
          OSError: with a message, for instance if the disk is full or metrics.jsonl was
            deleted. The file still ends with a whole row.
          CallerFailed: if `on_row` raised an error. It is not called again.
        """
        if not self._primary:
            return
        values = {name: float(value) for name, value in metrics.items()}
        row = strict({"step": step, **values})
        line = json.dumps(row, allow_nan=False)
        try:
            self._append(line.encode() + b"\n")
            self._tensorboard.row(step, values)
        except OSError as error:
            raise OSError(
                f"The row of step {step} could not be written in {self._path.parent}: "
                f"{why_not_written(error)}."
            ) from error
        self._tell(row)

    def _tell(self, row: Row) -> None:
        on_row, self._on_row = self._on_row, None
        if on_row is None:
            return
        try:
            on_row(row)
        except Exception as error:
            raise CallerFailed from error
        self._on_row = on_row

    def rows(self) -> list[Row]:
        """Return all rows so far, {"step": int, name: float or None}, in order."""
        return [json.loads(line) for line in _whole_lines(self._path)]

    def truncate_after(self, step: int) -> None:
        """Drop the rows after `step`. A run resumed there writes them again.

        TensorBoard is told to drop them too.
        """
        if not self._primary:
            return
        lines = _whole_lines(self._path)
        self._file.close()
        self._rewrite([line for line in lines if json.loads(line)["step"] <= step])
        self._tensorboard.resume(step)

    def finish(
        self,
        step: int,
        settings: Mapping[str, Any],
        figures: Mapping[str, float],
        pictures: Mapping[str, Path],
    ) -> None:
        """Write pictures, final figures and settings to TensorBoard.

        Missing pictures are left out. Disk errors are raised as `OSError`.
        """
        if self._primary:
            there = {name: path for name, path in pictures.items() if path.exists()}
            self._tensorboard.finish(step, settings, figures, there)

    def close(self) -> None:
        if self._primary:
            self._file.close()
        self._tensorboard.close()

    def _rewrite(self, lines: list[bytes]) -> None:
        write_atomically(self._path, b"".join(lines))
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115

    def _append(self, line: bytes) -> None:
        if not os.fstat(self._file.fileno()).st_nlink:
            raise OSError("metrics.jsonl was deleted while the run was writing to it")
        append_whole(self._file, line)


def _whole_lines(path: Path) -> list[bytes]:
    """Return the lines that are JSON, without a half-written last line.

    Raises:
      InputError: if a line before the last is damaged.
    """
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    if lines and not _is_row(lines[-1]):
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not _is_row(line):
            raise InputError(f"{path} is damaged at line {number}; delete that line.")
    return lines


def _is_row(line: bytes) -> bool:
    """Return True for a whole line {"step": int, name: float or None}."""
    try:
        row = json.loads(line)
    except ValueError:
        return False
    if not (line.endswith(b"\n") and isinstance(row, dict)):
        return False
    numbers = all(isinstance(value, int | float | None) for value in row.values())
    return numbers and type(row.get("step")) is int  # not True
