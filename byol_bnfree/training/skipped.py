"""skipped.jsonl: the pictures that a run left out because they cannot be read."""

import os
from pathlib import Path
from typing import Any

from byol_bnfree.data.reading import BadImage
from byol_bnfree.data.sources import Source
from byol_bnfree.data.stream import StreamSource
from byol_bnfree.errors import InputError
from byol_bnfree.files import append_row, read_rows


class SkippedFile:
    """One row per skipped picture. Every process of a run writes its own file."""

    def __init__(self, folder: Path, process: int = 0):
        name = f"skipped-{process}.jsonl" if process else "skipped.jsonl"
        self.path = folder / name
        self._rows = self._read()
        self._known = {(row["split"], row["file"]) for row in self._rows}

    def __len__(self) -> int:
        """Count the pictures that all processes before and this process skipped."""
        return len({file for _, file in self._known})

    def read_others(self) -> None:
        """Also count the pictures that the other processes have skipped since."""
        new = [row for row in self._read() if row not in self._rows]
        self._known |= {(row["split"], row["file"]) for row in new}

    def follow(self, source: Source) -> None:
        """Skip the pictures that were skipped before, and record new ones."""
        indices = {}
        if isinstance(source, StreamSource):
            indices = {bad.name: index for index, bad in source.pictures.bad.items()}
        for file, reason in source.skipped.items():
            self._add(source.split, indices.get(file), file, reason)
        # A set in memory is read whole, so it skips nothing later.
        if not isinstance(source, StreamSource):
            return
        source.pictures.leave_out(self._known_in(source))

        def add(index: int, bad: BadImage) -> None:
            self._add(source.split, index, bad.name, bad.reason)

        source.pictures.on_skip = add

    def _known_in(self, source: StreamSource) -> dict[int, BadImage]:
        """Return the pictures of a source that were skipped before, by their index.

        Rows of other pictures, which the folder held before, do not count. The data may
        have moved since, so only the last part of a path is compared.
        """
        found = {}
        for row in self._rows:
            index, file = row["index"], row["file"]
            if row["split"] != source.split or index is None:
                continue
            name = source.name_of(index) if index < len(source) else ""
            if os.path.basename(name) == os.path.basename(file):
                found[index] = BadImage(file, row["reason"])
            else:
                self._known.discard((row["split"], file))
        return found

    def _read(self) -> list[dict[str, Any]]:
        """Return the rows of all processes."""
        found = []
        for path in sorted(self.path.parent.glob("skipped*.jsonl")):
            rows = read_rows(path, mend=path == self.path)
            for number, row in enumerate(rows, 1):
                if not _is_row(row):
                    raise InputError(
                        f"{path} names no skipped picture at line {number}; repair or "
                        f"remove that line."
                    )
            found += rows
        return found

    def _add(self, split: str, index: int | None, file: str, reason: str) -> None:
        if (split, file) in self._known:
            return
        self._known.add((split, file))
        row = {"split": split, "index": index, "file": file, "reason": reason}
        append_row(self.path, row)


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict):
        return False
    texts = [row.get(name) for name in ("split", "file", "reason")]
    known = "index" in row and isinstance(row["index"], int | None)
    return known and all(isinstance(text, str) for text in texts)


def forget_skipped(folder: Path) -> None:
    """Remove the rows of a run that begins anew, perhaps with other pictures."""
    for path in folder.glob("skipped*.jsonl"):
        path.unlink(missing_ok=True)
