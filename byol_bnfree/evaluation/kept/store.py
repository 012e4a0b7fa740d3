"""Stored results: rows of `evaluations.jsonl`, which are appended and never changed."""

import datetime
import json
import os
from pathlib import Path
from typing import Any

from byol_bnfree.errors import InputError
from byol_bnfree.files import strict

Row = dict[str, Any]


class Store:
    """The rows of a work folder. `identity` says what was measured."""

    def __init__(self, path: Path):
        self._path = path
        self._rows = _read(path)

    def find(self, identity: Row) -> Row | None:
        """Return the newest row with this identity, or None."""
        wanted = strict(identity)
        same = (row for row in reversed(self._rows) if row["identity"] == wanted)
        return next(same, None)

    def add(self, identity: Row, **measured: Any) -> Row:
        """Append a row with the time. It is on disk when this returns."""
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
        """Return the newest row of each identity, in the order of measurement."""
        newest: dict[str, Row] = {}
        for row in self._rows:
            key = json.dumps(row["identity"], sort_keys=True)
            newest.pop(key, None)  # a dict would keep the place of the older row
            newest[key] = row
        return list(newest.values())


def _read(path: Path) -> list[Row]:
    """Return all whole rows. A row that a kill cut off is removed from the file.

    Rows of another form, which other programs wrote, are passed over with a note.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        os.truncate(path, len(whole))
    try:
        rows = [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise InputError(
            f"{path} has a line that is not JSON ({error}); repair or remove it."
        ) from error
    known = [row for row in rows if _has_form(row)]
    if len(known) < len(rows):
        print(
            f"note: {len(rows) - len(known):,} rows of {path} are no results of this "
            f"program and are passed over",
            flush=True,
        )
    return known


def _has_form(row: Any) -> bool:
    keys = ("identity", "figures")
    return isinstance(row, dict) and all(isinstance(row.get(k), dict) for k in keys)
