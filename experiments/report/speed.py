"""Tables of speed for docs/results.md."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from byol_bnfree.files import read_rows
from experiments.pages.blocks import Block, Code, Section, Table, Text
from experiments.report.conditions import commit_of, machine

EXPERIMENTS = Path(__file__).parents[1]


def step_speed() -> Iterator[Block]:
    """Yield a section with the newest row of each workload."""
    newest = {
        row["workload"]: row
        for row in read_rows(EXPERIMENTS / "throughput" / "results.jsonl")
        if "medians" in row
    }
    if not newest:
        return
    lines = [
        (
            name,
            norm,
            _rate(found["images_per_s"]),
            f"{found['of_peer']:.2f}" if found.get("of_peer") else "",
            f"{100 * found['part_of_limit']:.0f}",
            str(len(row["rounds"])),
            commit_of(row),
        )
        for name, row in newest.items()
        for norm, found in row["medians"].items()
        if "part_of_limit" in found
    ]
    head = (
        "workload",
        "norm",
        "images/s",
        "x PyTorch",
        "% of limit",
        "rounds",
        "commit",
    )
    yield Section(
        "Speed of a training step",
        [
            Text(
                "One step on ready-made views, median of the rounds, which alternate "
                "with a PyTorch program of the same network. The limit is the rate of "
                "a large float32 matrix product; fast convolutions can exceed it. "
                + " ".join(sorted({machine(r["environment"]) for r in newest.values()}))
            ),
            Code("python -m experiments.throughput"),
            Table(head, lines, words=(0, 1, 6)),
        ],
    )


def evaluation_speed() -> Iterator[Block]:
    """Yield a section with the newest row of each contest."""
    newest = {
        row["title"]: row
        for row in read_rows(EXPERIMENTS / "evaluation_speed" / "results.jsonl")
    }
    if not newest:
        return
    lines = [
        (title, *_contest(row["seconds"]), str(len(row["seconds"])), commit_of(row))
        for title, row in newest.items()
    ]
    head = ("what", "seconds", "beside", "rounds", "commit")
    yield Section(
        "Speed of evaluation",
        [
            Text(
                "Medians of the rounds, which alternate with a simple program for the "
                "same task. "
                + " ".join(sorted({machine(r["environment"]) for r in newest.values()}))
            ),
            Code("python -m experiments.evaluation_speed"),
            Table(head, lines, words=(0, 2, 4)),
        ],
    )


def _contest(rounds: Sequence[dict[str, float]]) -> tuple[str, str]:
    """Return the seconds of this package and of the others."""
    medians = {k: statistics.median(r[k] for r in rounds) for k in rounds[0]}
    others = [f"{k} {v:.1f}" for k, v in medians.items() if k != "ours"]
    return f"{medians['ours']:.1f}", ", ".join(others)


def _rate(images: float) -> str:
    return f"{images:,.0f}" if images >= 100 else f"{images:.3g}"
