"""Stored results: rows of `evaluations.jsonl`, which are appended and never changed."""

import datetime
import json
from pathlib import Path
from typing import Any

from byol_bnfree.files import append_row, read_rows, strict

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
        append_row(self._path, row)
        self._rows.append(row)
        return row

    def figures(self) -> list[Row]:
        """Return the newest row of each identity, in the order of measurement.

        Rows without figures, as of other programs, are passed over.
        """
        newest: dict[str, Row] = {}
        for row in self._rows:
            if not isinstance(row.get("figures"), dict):
                continue
            key = json.dumps(row["identity"], sort_keys=True)
            newest.pop(key, None)  # a dict would keep the place of the older row
            newest[key] = row
        return list(newest.values())


def _read(path: Path) -> list[Row]:
    """Return the rows. Rows of another form, as of other programs, are passed over."""
    rows = read_rows(path, mend=True)
    known = [row for row in rows if _has_identity(row)]
    if len(known) < len(rows):
        print(
            f"note: {len(rows) - len(known):,} rows of {path} are no results of this "
            f"program and are passed over",
            flush=True,
        )
    return known


def _has_identity(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("identity"), dict)
