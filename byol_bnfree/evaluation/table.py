"""Figures side by side: those that cannot be compared never share a column."""

from rich.console import Console
from rich.table import Table

from byol_bnfree.evaluation.store import Row

COLUMNS = {
    "knn": "kNN",
    "linear": "linear",
    "linear_cached": "linear, cached",
    "semi_supervised": "{:.4g} % labels",
    "finetune": "fine-tuned",
    "supervised": "supervised",
}


def figures_table(rows: list[Row]) -> Table:
    """One row for each data set, network and step; one column for each protocol.

    Of several measurements of one cell (other seeds or settings) the newest shows;
    evaluations.jsonl has all.
    """
    titles = [title for _, title in sorted({_place(row) for row in rows})]
    table = Table(caption="test split, %; top-1, and top-5 after the stroke")
    for title in ("data", "network", "step", *titles):
        table.add_column(
            title,
            justify="left" if title in ("data", "network") else "right",
            min_width=max(len(word) for word in title.split()),
        )
    lines: dict[tuple, dict[str, str]] = {}
    for row in rows:
        identity = row["identity"]
        subject = identity["dataset"], identity["network"], str(identity["step"])
        lines.setdefault(subject, {})[_place(row)[1]] = _cell(row["figures"])
    for subject, cells in lines.items():
        table.add_row(*subject, *(cells.get(title, "") for title in titles))
    return table


def _place(row: Row) -> tuple[tuple[int, float], str]:
    """Order and title of a row's column."""
    identity = row["identity"]
    protocol = identity["protocol"]
    share = identity["settings"].get("share", 0.0)
    order = list(COLUMNS).index(protocol), share
    return order, COLUMNS[protocol].format(100 * share)


def _cell(figures: dict[str, float]) -> str:
    shown = [figures[name] for name in ("top1", "top5") if name in figures]
    return " / ".join(f"{100 * value:.1f}" for value in shown)


def print_table(rows: list[Row], console: Console | None = None) -> None:
    """To a terminal or a pipe."""
    (console or Console()).print(figures_table(rows))
