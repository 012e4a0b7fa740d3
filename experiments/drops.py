"""Says which of two methods loses less accuracy when something is taken away."""

from collections.abc import Mapping
from typing import NamedTuple

from experiments.comparison import Comparison, Result, common_seeds
from experiments.decisions import few_seeds
from experiments.sentences import Sentence


class Row(NamedTuple):
    """An arm of a family, and the first arm of that family."""

    start: Result
    result: Result


def smaller_drops(*pairs: tuple[str, str]) -> Sentence:
    """Compare two families row by row: how far is each below its family's first arm?

    A row counts if both families have it, and a mean in at least one. The drops are
    means over the seeds that all four arms have. An arm has lost everything if some of
    its runs ended without an accuracy and at most half learned.
    """

    def sentence(comparison: Comparison) -> str:
        parts, compared = [], []
        for ours, theirs in pairs:
            a, b = _rows(comparison, ours), _rows(comparison, theirs)
            found = [_loses_less(a[name], b[name]) for name in a.keys() & b.keys()]
            known = [less for less in found if less is not None]
            if known:
                compared += _used(a, b)
                word = "row" if len(known) == 1 else "rows"
                parts.append(
                    f"{ours} loses less than {theirs} in {sum(known)} of {len(known)} "
                    f"{word}"
                )
        if not parts:
            return (
                "No further row was run with both BYOL and SimCLR, so their losses "
                "cannot be compared."
            )
        answer = f"BYOL against SimCLR, by the means: {'; '.join(parts)}."
        return f"{answer}{few_seeds(compared)}"

    return sentence


def _rows(comparison: Comparison, family: str) -> Mapping[str, Row]:
    """Return the rows of a family below its first arm, by name without the family."""
    arms = comparison.arms
    first = [arm for arm in arms if family in arm.starts]
    first = (first or [arm for arm in arms if arm.family == family])[0]
    results = comparison.families().get(family, [])
    found = {result.arm.name: result for result in results}
    if first.name not in found or found[first.name].mean is None:
        return {}
    start = found.pop(first.name)
    return {
        name.removeprefix(f"{family}-"): Row(start, result)
        for name, result in found.items()
        if result.mean is not None or result.failed
    }


def _used(a: Mapping[str, Row], b: Mapping[str, Row]) -> list[Result]:
    """Return the results of the rows that both families have, with their starts."""
    rows = [family[name] for name in a.keys() & b.keys() for family in (a, b)]
    return list({r.arm.name: r for row in rows for r in row}.values())


def _loses_less(a: Row, b: Row) -> bool | None:
    """Say if a's drop is the smaller one; None if both failed, or share no seed."""
    if a.result.mean is None or b.result.mean is None:
        return None if a.result.mean == b.result.mean else b.result.mean is None
    seeds = common_seeds((*a, *b))
    if not seeds:
        return None
    drops = [row.start.mean_over(seeds) - row.result.mean_over(seeds) for row in (a, b)]
    return drops[0] < drops[1]
