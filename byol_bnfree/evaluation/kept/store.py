"""Stored figures: rows of `evaluations.jsonl`, appended and never rewritten."""

import datetime
import json
import os
from pathlib import Path
from typing import Any

from byol_bnfree.errors import InputError
from byol_bnfree.files import strict

Row = dict[str, Any]


class Store:
    """Rows of a work folder: what was measured (`identity`), and how much."""

    def __init__(self, path: Path):
        self._path = path
        self._rows = _read(path)

    def find(self, identity: Row) -> Row | None:
        """The newest row of this identity."""
        wanted = strict(identity)
        same = (row for row in reversed(self._rows) if row["identity"] == wanted)
        return next(same, None)

    def add(self, identity: Row, **measured: Any) -> Row:
        """Append a row, with the time; it is on disk when this returns."""
        now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        row = strict({"identity": identity, "measured": now} | measured)
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
            json.dumps(row["identity"], sort_keys=True): row for row in self._rows
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
            f"{path} has a line that is not JSON ({error}); repair or remove it."
        ) from error
