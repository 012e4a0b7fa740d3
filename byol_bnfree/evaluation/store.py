"""What has been measured: rows of `evaluations.jsonl`, appended and never rewritten."""

import json
import os
from pathlib import Path
from typing import Any

from byol_bnfree.errors import InputError
from byol_bnfree.training.workdir import strict

Row = dict[str, Any]


class Store:
    """Rows of one work folder. A row says what was measured (`identity`) and how much.

    Row kinds: "figure" is a result of a protocol, "trial" one setting of a sweep, kept
    so that an interrupted sweep goes on where it stopped.
    """

    def __init__(self, path: Path):
        self._path = path
        self._rows = _read(path)

    def find(self, kind: str, identity: Row) -> Row | None:
        """The newest row of this kind and identity."""
        wanted = strict(identity)
        for row in reversed(self._rows):
            if row["kind"] == kind and row["identity"] == wanted:
                return row
        return None

    def add(self, kind: str, identity: Row, **measured: Any) -> Row:
        """Append a row; it is on disk when this returns."""
        row = strict({"kind": kind, "identity": identity} | measured)
        text = json.dumps(row, allow_nan=False) + "\n"
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self._rows.append(row)
        return row

    def figures(self) -> list[Row]:
        """The newest figure of each identity, in the order they were measured."""
        newest = {
            json.dumps(row["identity"], sort_keys=True): row
            for row in self._rows
            if row["kind"] == "figure"
        }
        return list(newest.values())


def _read(path: Path) -> list[Row]:
    """All whole rows; the beginning of one that a kill cut off is removed."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        os.truncate(path, len(whole))
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise InputError(
            f"{path} has a line that is not JSON ({error}); mend or remove it."
        ) from error
