"""Figures side by side: those that cannot be compared never share a column."""

from rich.console import Console
from rich.table import Table

from byol_bnfree.evaluation.store import Row

COLUMNS = {"knn": "kNN", "linear_cached": "linear, cached"}


def figures_table(rows: list[Row]) -> Table:
    """One row for each data set, network and step; one column for each protocol.

    Of several measurements of one cell (other seeds or settings) the newest shows;
    evaluations.jsonl has all.
    """
    protocols = [p for p in COLUMNS if any(_protocol(row) == p for row in rows)]
    table = Table(caption="test split, %; top-1, and top-5 after the stroke")
    for title in ("data", "network", "step", *(COLUMNS[p] for p in protocols)):
        table.add_column(
            title, justify="left" if title in ("data", "network") else "right"
        )
    lines: dict[tuple, dict[str, str]] = {}
    for row in rows:
        identity = row["identity"]
        subject = identity["dataset"], identity["network"], str(identity["step"])
        lines.setdefault(subject, {})[_protocol(row)] = _cell(row["figures"])
    for subject, cells in lines.items():
        table.add_row(*subject, *(cells.get(protocol, "") for protocol in protocols))
    return table


def _protocol(row: Row) -> str:
    return row["identity"]["protocol"]


def _cell(figures: dict[str, float]) -> str:
    shown = [figures[name] for name in ("top1", "top5") if name in figures]
    return " / ".join(f"{100 * value:.1f}" for value in shown)


def print_table(rows: list[Row], console: Console | None = None) -> None:
    """To a terminal or a pipe."""
    (console or Console()).print(figures_table(rows))
