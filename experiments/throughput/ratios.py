"""The ratios of one run of `device`, as a table."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table


def ratios(found: Sequence[dict[str, Any]], workloads: dict[str, Any]) -> Table:
    """A line for every workload and figure; "?" where a part is missing."""
    table = Table(title="ratios on one device, in one run")
    for head in ("workload", "figure", "measured"):
        table.add_column(head)
    rows = {(row["workload"], row["arm"]): row for row in found if "failed" not in row}
    for name in workloads:
        bn, gn_ws, run, *torch = (
            rows.get((name, arm), {})
            for arm in ("bn", "gn_ws", "bn run", "torch eager", "torch compiled")
        )
        step, with_views = bn.get("images_per_s"), bn.get("with_views_images_per_s")
        peers = [row["images_per_s"] for row in torch if row]
        peer = max(peers, default=None)
        figures = (
            ("bn step on ready views, images/s", step, 1),
            ("over the faster PyTorch step", step, peer),
            ("with our augmentation, over the same PyTorch step", with_views, peer),
            ("gn_ws over bn, time of a step", step, gn_ws.get("images_per_s")),
            ("views, part of the step", bn.get("views_part"), 1),
            ("run by its log, over its step and views", run.get("logged"), with_views),
            ("run by the clock, over its step", run.get("images_per_s"), step),
            ("of the bfloat16 matrix rate", bn.get("part_of_limit"), 1),
            ("profile, part of the step's time", bn.get("profile_part"), 1),
        )
        for figure, above, below in figures:
            known = above is not None and below is not None
            table.add_row(name, figure, f"{above / below:,.3f}" if known else "?")
    return table
