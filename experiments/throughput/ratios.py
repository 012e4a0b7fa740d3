"""The results of one run of `device`, as tables."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

SLOWEST = 5  # operations of each arm


def costs(found: Sequence[dict[str, Any]]) -> Table:
    """A line for every arm: memory, time to compile, and the share of the limit.

    The limit is the measured rate of bfloat16 matrix products. A cell is empty if the
    arm does not measure it. Memory is in units of 2**30 bytes; of a peer it is its own
    peak_gib.
    """
    table = Table(title="each arm on one device")
    for head in ("workload", "arm"):
        table.add_column(head)
    for head in ("images/s", "peak GiB", "compile s", "of the matrix rate"):
        table.add_column(head, justify="right")
    for row in found:
        if "failed" in row:
            table.add_row(row["workload"], row["arm"], "failed")
            continue
        peak, part = row.get("peak_gib"), row.get("part_of_limit")
        if isinstance(peak, dict):  # ours; CPUs count only the process's memory
            peak = peak["device"] or peak["host"]
        seconds = row.get("compile_seconds")
        table.add_row(
            row["workload"],
            row["arm"],
            f"{row['images_per_s']:,.1f}",
            "" if peak is None else f"{peak:.1f}",
            "" if seconds is None else f"{seconds:.1f}",
            "" if part is None else f"{part:.1%}",
        )
    return table


def slowest(found: Sequence[dict[str, Any]]) -> Table:
    """The operations of the profile that take longest, in milliseconds a step."""
    table = Table(title="slowest operations of a step")
    for head in ("workload", "arm", "operation"):
        table.add_column(head)
    table.add_column("ms", justify="right")
    for row in found:
        top = sorted(row.get("top_ms", {}).items(), key=lambda pair: -pair[1])
        for operation, time in top[:SLOWEST]:
            table.add_row(row["workload"], row["arm"], operation, f"{time:.3f}")
    return table


def ratios(found: Sequence[dict[str, Any]], workloads: dict[str, Any]) -> Table:
    """A line for every workload and figure; "?" where a part is missing."""
    table = Table(title="ratios on one device, in one run")
    for head in ("workload", "figure", "measured"):
        table.add_column(head)
    rows = {(row["workload"], row["arm"]): row for row in found if "failed" not in row}
    for name in workloads:
        bn, gn_ws, muon, run, *torch = (
            rows.get((name, arm), {})
            for arm in (
                *("bn", "gn_ws", "gn_ws muon", "bn run"),
                *("torch eager", "torch compiled"),
            )
        )
        step, with_views = bn.get("images_per_s"), bn.get("with_views_images_per_s")
        peers = [row["images_per_s"] for row in torch if row]
        peer = max(peers, default=None)
        figures = (
            ("bn step on ready views, images/s", step, 1),
            ("over the faster PyTorch step", step, peer),
            ("with our augmentation, over the same PyTorch step", with_views, peer),
            ("gn_ws over bn, time of a step", step, gn_ws.get("images_per_s")),
            (
                "gn_ws with Muon over LARS, time of a step",
                *(gn_ws.get("images_per_s"), muon.get("images_per_s")),
            ),
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
