"""Compares each row with the paper: who learns, who is ahead, who wins."""

import itertools
import math
from typing import NamedTuple

from experiments.comparison import Comparison, Result, linear_difference
from experiments.decisions import few_seeds
from experiments.seeds import Difference
from experiments.sentences import PAPER_LEARNED

TIE = 1.0
"""Points. Rows of the paper closer than this count as equal."""


class RowVerdict(NamedTuple):
    """A row of the paper's table, compared with the runs of its arm."""

    arm: str
    paper: float
    word: str
    """as in the paper, unlike the paper, or not decided yet."""
    why: str


class Orders(NamedTuple):
    """Pairs of rows that the paper orders, and those with the same order here."""

    same: int
    pairs: int


def row_verdicts(comparison: Comparison) -> list[RowVerdict]:
    """Judge every row that was run and has a figure in the paper."""
    return [_row(comparison, result) for result in _known(comparison)]


def _known(comparison: Comparison) -> list[Result]:
    return [r for r in comparison.results.values() if r.arm.paper is not None]


def _row(comparison: Comparison, result: Result) -> RowVerdict:
    paper = result.arm.paper
    failed_there, outcomes = (
        paper <= PAPER_LEARNED,
        "/".join(dict.fromkeys(result.outcomes)),
    )
    if failed_there:
        word = "unlike the paper" if result.learned else "as in the paper"
        what = "learns" if result.learned else "fails"
        why = f"{what} here ({outcomes}), fails there"
    elif not result.learned:
        word, why = "unlike the paper", f"fails here ({outcomes}), learns there"
    else:
        word, why = _against_reference(comparison, result)
    return RowVerdict(result.arm.name, paper, word, why)


def _against_reference(comparison: Comparison, result: Result) -> tuple[str, str]:
    """Compare the sides of the reference arm, in the paper and here."""
    name = _reference_of(comparison, result)
    reference = comparison.results.get(name)
    if result.arm.name == name:
        return "as in the paper", "learns, here and there"
    if reference is None or reference.arm.paper is None or not reference.learned:
        return "as in the paper", "learns, here and there"
    there = result.arm.paper - reference.arm.paper
    difference = linear_difference(result, reference)
    if difference is None:
        return "not decided yet", "no seed in common with the reference"
    text = f"{there:+.1f} points there, {difference.mean:+.1f} here"
    match is_on_side(difference, _side(there)):
        case None:
            return "not decided yet", text
        case True:
            return "as in the paper", text
        case False:
            return "unlike the paper", text


def is_on_side(difference: Difference, side: str) -> bool | None:
    """Say if the whole interval is `ahead`, `level` or `behind`; None: not decided.

    `ahead` is above 0. `level` is within `TIE` points of 0, and `behind` is below that.
    """
    low, high = difference.low, difference.high
    if low is None or difference.lost:
        return None
    least, most = {
        "ahead": (0.0, math.inf),
        "level": (-TIE, TIE),
        "behind": (-math.inf, -TIE),
    }[side]
    if least <= low and high <= most:
        return True
    return False if high < least or low > most else None


def _reference_of(comparison: Comparison, result: Result) -> str:
    """Return the arm that is in its family what the reference is in its own."""
    families = {arm.name: arm.family for arm in comparison.arms}
    name = comparison.reference
    own = result.arm.family + name.removeprefix(families[name])
    return own if own in families else name


def _side(points: float) -> str:
    if abs(points) <= TIE:
        return "level"
    return "ahead" if points > 0 else "behind"


def orders(comparison: Comparison) -> Orders:
    """Count the pairs that the paper orders, and those whose means agree here."""
    known = [r for r in _known(comparison) if r.mean is not None]
    pairs = [
        (a, b)
        for a, b in itertools.combinations(known, 2)
        if abs(a.arm.paper - b.arm.paper) > TIE
    ]
    same = [(a.mean > b.mean) == (a.arm.paper > b.arm.paper) for a, b in pairs]
    return Orders(sum(same), len(pairs))


def winners(comparison: Comparison) -> tuple[list[str], str] | None:
    """Return the paper's best rows (within `TIE`), and the best row here."""
    known = [r for r in _known(comparison) if r.mean is not None]
    if len(known) < 2:
        return None
    most = max(r.arm.paper for r in known)
    theirs = [r.arm.name for r in known if most - r.arm.paper <= TIE]
    return theirs, max(known, key=lambda r: r.mean).arm.name


def against_paper(comparison: Comparison) -> str:
    """Summarize the rows that agree, the order of pairs, the winner, and the caveat."""
    rows = row_verdicts(comparison)
    total = sum(arm.paper is not None for arm in comparison.arms)
    if not rows:
        return "Not answered yet: no row of the paper's table was run."
    said = {
        word: [row.arm for row in rows if row.word == word]
        for word in ("as in the paper", "unlike the paper", "not decided yet")
    }
    parts = [
        f"{len(arms)} {word}"
        + (f" ({', '.join(arms)})" if arms and word == "unlike the paper" else "")
        for word, arms in said.items()
    ]
    ran = "was" if len(rows) == 1 else "were"
    text = f"{len(rows)} of the paper's {total} rows {ran} run: {', '.join(parts)}."
    same = orders(comparison)
    if same.pairs:
        text += (
            f" {same.same} of the {same.pairs} pairs of rows that differ in the paper "
            f"have the same order here."
        )
    if found := winners(comparison):
        theirs, ours = found
        agree = "also one" if ours in theirs else "not one"
        text += f" The best row here, {ours}, is {agree} of the paper's best."
    return f"{text}{few_seeds(_known(comparison))} {comparison.scale.caveat}"
