"""Says which of two methods loses less accuracy when something is taken away."""

import math

from experiments.comparison import Comparison, Result
from experiments.sentences import Sentence


def smaller_drops(*pairs: tuple[str, str]) -> Sentence:
    """Compare two families row by row: how far is each below its family's first arm?

    A row counts if both families have it, and an accuracy in at least one. A run that
    failed without an accuracy has lost everything.
    """

    def sentence(comparison: Comparison) -> str:
        parts = []
        for ours, theirs in pairs:
            a, b = _drops(comparison, ours), _drops(comparison, theirs)
            rows = [k for k in a.keys() & b.keys() if min(a[k], b[k]) < math.inf]
            less = sum(a[k] < b[k] for k in rows)
            if rows:
                word = "row" if len(rows) == 1 else "rows"
                parts.append(
                    f"{ours} loses less than {theirs} in {less} of {len(rows)} {word}"
                )
        if not parts:
            return "No row of both BYOL and SimCLR was run."
        return f"BYOL against SimCLR, by the means: {'; '.join(parts)}."

    return sentence


def _drops(comparison: Comparison, family: str) -> dict[str, float]:
    """Return the points that each row of a family is below its first arm, by name."""
    arms = comparison.arms
    first = [arm for arm in arms if family in arm.starts]
    first = (first or [arm for arm in arms if arm.family == family])[0]
    results = comparison.families().get(family, [])
    found = {result.arm.name: result for result in results}
    if first.name not in found or found[first.name].mean is None:
        return {}
    start = found.pop(first.name)
    return {
        name.removeprefix(f"{family}-"): _drop(start, result)
        for name, result in found.items()
        if result.mean is not None or result.failed
    }


def _drop(start: Result, result: Result) -> float:
    return math.inf if result.mean is None else start.mean - result.mean
