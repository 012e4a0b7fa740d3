"""One panel a workload: images per second of every arm, and the machine's limit."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLORS = {"bn": "#4c72b0", "gn_ws": "#dd8452", "peer": "#8c8c8c"}


def save_figure(path: Path, rows: list[dict[str, Any]]) -> None:
    """Draws the medians of `rows` as bars, with each round as a dot."""
    figure, panels = plt.subplots(
        1, len(rows), figsize=(3 * len(rows), 3.6), layout="constrained", squeeze=False
    )
    for panel, row in zip(panels[0], rows, strict=True):
        arms = list(row["medians"])
        bn = row["medians"]["bn"]
        limit = bn["matmul_gflop_per_s"] / bn["gflop_per_image"]
        top = limit
        for x, arm in enumerate(arms):
            panel.bar(x, row["medians"][arm]["images_per_s"], color=COLORS[arm])
            rates = [result["images_per_s"] for result in row["rounds"][arm]]
            panel.plot([x] * len(rates), rates, "k.", markersize=4)
            top = max(top, *rates)
        line = panel.axhline(limit, color="black", linestyle="--", linewidth=1)
        panel.legend([line], ["matrix-product rate"], loc="upper left", frameon=False)
        panel.set_xticks(range(len(arms)), arms)
        panel.set_ylim(0, 1.2 * top)  # room for the legend
        panel.set_title(row["workload"], fontsize=10)
    panels[0][0].set_ylabel("images per second of a step")
    figure.savefig(path, dpi=120)
    plt.close(figure)
