"""Tables of results. Results that cannot be compared never share a column."""

from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from byol_bnfree.evaluation.kept.store import Row
from byol_bnfree.evaluation.outcome import PLAIN

COLUMNS = {
    "knn": "kNN",
    "linear": "linear, {fitted}",
    "linear_cached": "linear, cached",
    "semi_supervised": "{percent:.4g} % labels",
    "finetune": "fine-tuned",
    "supervised": "supervised",
    "robustness": "{corruption}",
    "transfer": "{method}",
    "segmentation": "segmentation, {head} head, {encoder} encoder, {norms} norms",
    "depth": "depth, {head} head, {encoder} encoder, {norms} norms",
    "detection": "detection, {head} head, {encoder} encoder, {norms} norms",
}
DENSE = (
    "dense tasks: mIoU, %; depth within 1.25, %, relative and rms error; AP50 (VOC), "
    "AP50 and AP (COCO), %"
)
TITLES = {
    "segmentation": DENSE,
    "depth": DENSE,
    "detection": DENSE,
    "robustness": "corrupted images, %: top-1 of linear, cached; mean over five levels",
    "transfer": "other data sets, %: top-1 unless stated",
}
TITLE = "test split, %; top-1 / top-5"
DIGITS = 6  # of the checksum of weights
UNBROKEN = 140  # characters per line where no terminal gives a width
UNITS = {
    **{"top1": "", "top5": "", "mean_per_class": " per class", "map11": " mAP"},
    **{"miou": "", "pct1": "", "ap50_voc": "", "ap50_coco": "", "ap_coco": ""},
}


def figures_table(rows: list[Row], title: str = TITLE) -> Table:
    """Build a table with a row per data set and encoder, and a column per protocol.

    If a cell was measured several times (with other seeds or settings), it shows the
    newest result. evaluations.jsonl has all. Encoders of one name and step are told
    apart by the checksum of their weights.
    """
    columns = [column for _, column in sorted({_place(row) for row in rows})]
    table = Table(title=Text(title, style="table.title"), title_justify="left")
    for column in ("data", "network", "step", *columns):
        table.add_column(
            Text(column),
            justify="left" if column in ("data", "network") else "right",
            min_width=max(len(word) for word in column.split()),
        )
    lines: dict[tuple, dict[str, str]] = {}
    for row in rows:
        identity = row["identity"]
        subject = identity["dataset"], identity["network"], str(identity["step"])
        line = *subject, identity["weights"]
        lines.setdefault(line, {})[_place(row)[1]] = _cell(row["figures"])
    encoders = Counter(line[:3] for line in lines)
    for (data, network, step, weights), cells in lines.items():
        if encoders[data, network, step] > 1:
            network = f"{network} {weights[:DIGITS]}"
        line = data, network, step, *(cells.get(column, "") for column in columns)
        table.add_row(*map(Text, line))  # a name such as a[b] is not rich's markup
    return table


def _place(row: Row) -> tuple[tuple[int, float], str]:
    """Return the sort key and the title of a row's column."""
    protocol, settings = row["identity"]["protocol"], row["identity"]["settings"]
    share = settings.get("share", 0.0)
    fitted = _fitted(settings)
    title = COLUMNS[protocol].format(percent=100 * share, fitted=fitted, **settings)
    return (list(COLUMNS).index(protocol), share), title


def _fitted(settings: dict[str, Any]) -> str:
    """Describe the images that chose the rate of a linear evaluation, and the fit."""
    count = settings.get("held_out")
    held_out = "a tenth held out" if count is None else f"{count:,} held out"
    return held_out + (", refitted on all" if settings.get("refit") else "")


def _cell(figures: dict[str, float]) -> str:
    shares = [f"{100 * figures[k]:.1f}{u}" for k, u in UNITS.items() if k in figures]
    plain = [f"{figures[k]:.3f}{unit}" for k, unit in PLAIN.items() if k in figures]
    return " / ".join(shares + plain)


def print_tables(rows: list[Row], console: Console | None = None) -> None:
    """Print the tables. Corrupted images and other data sets have their own tables."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, UNBROKEN)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        title = TITLES.get(row["identity"]["protocol"], TITLE)
        groups.setdefault(title, []).append(row)
    for title, group in groups.items():
        console.print(figures_table(group, title))
