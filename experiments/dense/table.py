"""The table of the comparison: a row per task and encoder, a column per norm."""

import statistics
from collections import defaultdict
from typing import Any

from rich.console import Console
from rich.table import Table

BEST = {"segmentation": "miou", "depth": "pct1", "detection": "ap50_voc"}


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print the mean over seeds, with half the range if there are several."""
    found: dict[tuple, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        arm = row["arm"]
        line = tuple(arm[key] for key in ("task", "tuned", "batch", "encoder"))
        figure = row["figures"].get(BEST[arm["task"]])
        found[line][arm["norm"]].append(100 * figure)
    norms = sorted({norm for cells in found.values() for norm in cells})
    figures = "mIoU of segmentation, pixels within 1.25 of depth, AP50 (VOC); %"
    table = Table(title=figures)
    for head in ("task", "fit", "batch", "encoder", *norms):
        table.add_column(head)
    for line, cells in sorted(found.items(), key=lambda item: str(item[0])):
        table.add_row(*map(str, line), *(_cell(cells[norm]) for norm in norms))
    Console().print(table)


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):.1f}"
    if len(values) == 1:
        return mean
    return f"{mean} +/- {(max(values) - min(values)) / 2:.1f} ({len(values)})"
