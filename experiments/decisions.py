"""Puts intervals over seeds into words, without claiming more than they show."""

from collections.abc import Collection, Sequence

from experiments.comparison import Result, linear_difference
from experiments.seeds import (
    MOST_SEEDS,
    Difference,
    seeds_needed,
    verdict,
)

MARGIN = 1.0
"""Percentage points of linear accuracy that an arm may be behind."""
FEWEST_SEEDS = 3
"""With two seeds the interval reaches nine standard deviations to each side."""
WORDS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
"""Numbers that begin a sentence."""


def interval(difference: Difference) -> str:
    """Describe the interval and its seeds."""
    if difference.low is None:
        return "one seed, so there is no interval"
    return (
        f"95 % interval {difference.low:+.1f} to {difference.high:+.1f}, paired over "
        f"{difference.n} seeds"
    )


def in_cell(difference: Difference) -> str:
    """Write a difference, its interval and the number of seeds for a table."""
    value, n = f"{difference.mean:+.1f}", f"(n {difference.n})"
    if difference.low is None:
        return f"{value} {n}"
    return f"{value} [{difference.low:+.1f}, {difference.high:+.1f}] {n}"


def decision(name: str, difference: Difference) -> str:
    """Say if the arm `name` is behind, as far as the interval shows."""
    match verdict(difference, MARGIN):
        case "ahead":
            return f"{name} is ahead."
        case "not behind":
            return f"{name} is not behind by more than {MARGIN:g} point."
        case "behind":
            return f"{name} is behind by more than {MARGIN:g} point."
    return _open(f"{name} is more than {MARGIN:g} point behind", difference)


def _open(what: str, difference: Difference) -> str:
    """Say that `what` is not decided, and how many seeds could decide it."""
    if difference.lost:
        runs = "run" if difference.lost == 1 else "runs"
        return (
            f"It is not decided yet whether {what}: {difference.lost} {runs} ended "
            f"without an accuracy."
        )
    text = f"{_seeds(difference.n).capitalize()} cannot show whether {what}."
    if difference.low is None:
        return f"{text} At least {_seeds(FEWEST_SEEDS)} are needed."
    needed = seeds_needed(difference, MARGIN)
    if needed is None:
        return f"{text} More than {MOST_SEEDS} would be needed."
    return f"{text} About {needed} seeds could show it, if they vary as much as these."


def falls(difference: Difference) -> str:
    """Say if the accuracy falls from one end of the axis to the other."""
    match verdict(difference, MARGIN):
        case "behind":
            what = f"It falls by more than {MARGIN:g} point"
        case "ahead":
            what = "It rises"
        case "not behind":
            what = f"It does not fall by more than {MARGIN:g} point"
        case _:
            return _open(f"it falls by more than {MARGIN:g} point", difference)
    return f"{what} ({interval(difference)})."


def leads(lead: Difference | None) -> bool:
    """Say if the interval of a lead excludes 0. None means no common seed."""
    return lead is not None and verdict(lead, 0.0) == "ahead"


def is_first(best: Result, others: Sequence[Result], seeds: Collection[int]) -> bool:
    """Say if it is decided that `best` is ahead of every other arm.

    Accuracies are compared over `seeds`. An arm without one is behind if all of its
    runs failed, at least two, and all of the best arm's learned.
    """

    def is_behind(other: Result) -> bool:
        if other.mean is None:
            return other.agreed is False and best.agreed is True
        return leads(linear_difference(best, other, seeds))

    return all(map(is_behind, others))


def first_place(best: Result, others: Sequence[Result], seeds: Collection[int]) -> str:
    """Say if it is decided that `best` is ahead of every other arm."""
    if is_first(best, others, seeds):
        return "This order is decided"
    return f"This order is not decided ({_seeds(len(seeds))})"


def few_seeds(results: Sequence[Result]) -> str:
    """Return a warning if an answer rests on single runs; otherwise an empty text."""
    single = [r for r in results if len(r.rows) == 1]
    split = [
        r.arm.name for r in results if len({o == "learned" for o in r.outcomes}) > 1
    ]
    text = ""
    if split:
        text += f" Not decided yet, because seeds disagree: {', '.join(split)}."
    if single and len(single) == len(results):
        text += " Not decided yet: each arm has one seed, so there are no intervals."
    elif single:
        text += (
            f" Not decided yet, with one seed: {', '.join(r.arm.name for r in single)}."
        )
    return text


def _seeds(n: int) -> str:
    return f"{WORDS[n]} seed{'s' * (n != 1)}" if n in WORDS else f"{n} seeds"
