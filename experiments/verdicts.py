"""Compares each row with the paper: who learns, who is ahead, who wins."""

import itertools
from typing import NamedTuple

from experiments.comparison import (
    Comparison,
    Result,
    common_seeds,
    linear_difference,
)
from experiments.decisions import few_seeds, first_place, is_first
from experiments.grid import Arm
from experiments.scales import SCALES
from experiments.seeds import Difference

TIE = 1.0
"""Points. Rows of the paper closer than this count as equal."""

PROJECTIONS = (
    "only the projections collapsed; the paper's figure is of the representation, and "
    "the run was stopped without one"
)


class RowVerdict(NamedTuple):
    """A row of the paper's table, compared with the runs of its arm."""

    arm: Arm
    word: str
    """as in the paper, unlike the paper, not decided yet, or reference."""
    why: str


class Orders(NamedTuple):
    """Pairs of rows that the paper orders, and those with the same order here."""

    same: int
    pairs: int


def row_verdicts(comparison: Comparison) -> list[RowVerdict]:
    """Judge every row that was run and has a figure in the paper."""
    return [_row(comparison, result) for result in _known(comparison)]


def _known(comparison: Comparison) -> list[Result]:
    return [r for r in comparison.results.values() if r.arm.in_paper]


def _row(comparison: Comparison, result: Result) -> RowVerdict:
    outcomes = "/".join(dict.fromkeys(result.outcomes))
    fails = result.arm.fails_in_paper
    what = "learns" if result.learned else "fails"
    why = f"{what} here ({outcomes}), {'fails' if fails else 'learns'} there"
    if result.undecided:
        word, why = "not decided yet", PROJECTIONS
    elif result.learned and _reference_of(comparison, result) == result.arm.name:
        word, why = "reference", f"the other rows are compared with it; {why}"
    elif result.agreed is None:
        if result.learned and not fails:
            _, why = _against_reference(comparison, result)
        reason = "one seed" if len(result.rows) == 1 else "seeds disagree"
        word, why = "not decided yet", f"{reason}: {why}"
    elif result.agreed == fails:
        word = "unlike the paper"
    elif fails:
        word = "as in the paper"
    else:
        word, why = _against_reference(comparison, result)
    return RowVerdict(result.arm, word, why)


def _against_reference(comparison: Comparison, result: Result) -> tuple[str, str]:
    """Compare the sides of the reference arm, in the paper and here."""
    name = _reference_of(comparison, result)
    reference = comparison.results.get(name)
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

    `ahead` is above 0. `level` is within `TIE` points of 0, and `behind` is below 0.
    """
    low, high = difference.low, difference.high
    if low is None or difference.lost:
        return None
    inside, outside = {
        "ahead": (low > 0, high <= 0),
        "level": (low >= -TIE and high <= TIE, high < -TIE or low > TIE),
        "behind": (high < 0, low >= 0),
    }[side]
    return inside if inside or outside else None


def _reference_of(comparison: Comparison, result: Result) -> str:
    """Return the arm that its family starts with, or the one that is in its family what
    the reference is in its own.
    """
    for arm in comparison.arms:
        if result.arm.family in arm.starts:
            return arm.name
    families = {arm.name: arm.family for arm in comparison.arms}
    name = comparison.reference
    own = result.arm.family + name.removeprefix(families[name])
    return own if own in families else name


def _side(points: float) -> str:
    if abs(points) <= TIE:
        return "level"
    return "ahead" if points > 0 else "behind"


def orders(comparison: Comparison) -> Orders:
    """Count the pairs that the paper orders, and those with the same order here.

    Two rows that fail in the paper have no order there: their figures are noise. Two
    rows with accuracies of different seeds have no order here.
    """
    pairs = [
        (a, b) if _there(a) > _there(b) else (b, a)
        for a, b in itertools.combinations(_ranked(comparison), 2)
        if abs(_there(a) - _there(b)) > TIE
        and not (a.arm.fails_in_paper and b.arm.fails_in_paper)
    ]
    found = [_is_ahead(*pair) for pair in pairs]
    known = [ahead for ahead in found if ahead is not None]
    return Orders(sum(known), len(known))


def best_row(comparison: Comparison) -> str:
    """Say if the best row here is one of the paper's best (within `TIE`).

    Rows are ranked by their means over the seeds that all of them have. The best is
    named only if it is decided that it is ahead of every other (`is_first`). Empty if
    fewer than two rows were run, or none has an accuracy, or no one of two leads.
    """
    known = _ranked(comparison)
    here = [result for result in known if result.mean is not None]
    if len(known) < 2 or not here:
        return ""
    if not (seeds := common_seeds(here)):
        return "No row is the best here, because the rows have no seed in common."
    first, *others = sorted(here, key=lambda r: -r.mean_over(seeds))
    rivals = [r for r in known if r is not first and not is_first(first, [r], seeds)]
    if rivals:
        if len(known) == 2:
            return ""  # the two have been compared
        text = f"Of the paper's rows, {first.arm.name} has the highest mean here."
        if others:
            names = f"{first.arm.name} and {others[0].arm.name}"
            text = f"Of the paper's rows, {names} have the highest means here."
        if 1 in (len(first.rows), *(len(r.rows) for r in rivals)):
            return text  # `few_seeds` warns of single seeds
        return f"{text} {first_place(first, rivals, seeds)}."
    most = max(map(_there, known))
    agrees = "also one" if most - _there(first) <= TIE else "not one"
    return f"The best row here, {first.arm.name}, is {agrees} of the paper's best."


def _ranked(comparison: Comparison) -> list[Result]:
    """Return the rows that have an accuracy here, or failed."""
    known = _known(comparison)
    return [r for r in known if r.mean is not None or r.failed]


def _there(result: Result) -> float:
    """Return the paper's accuracy, percent. A row that fails without one has 0."""
    return result.arm.paper or 0.0


def _is_ahead(a: Result, b: Result) -> bool | None:
    """Say if a is ahead of b here, over common seeds; None if there is none.

    A row that failed without an accuracy is behind every row that learned, and has no
    order with others that failed.
    """
    if a.mean is None or b.mean is None:
        return a.learned if a.learned != b.learned else None
    difference = linear_difference(a, b)
    return None if difference is None else difference.mean > 0


def against_paper(comparison: Comparison) -> str:
    """Summarize the rows that agree, the order of pairs, the winner, and the caveat."""
    rows = row_verdicts(comparison)
    total = sum(arm.in_paper for arm in comparison.arms)
    if not rows:
        text = "Not answered yet: no row of the paper's table was run."
        return f"{text}\n{comparison.caveat}"
    said = {
        word: [row.arm.name for row in rows if row.word == word]
        for word in ("as in the paper", "unlike the paper", "not decided yet")
    }
    parts = [
        f"{len(arms)} {word}"
        + (f" ({', '.join(arms)})" if word == "unlike the paper" else "")
        for word, arms in said.items()
        if arms
    ]
    agreement = f" Agreement with the paper: {', '.join(parts)}." if parts else ""
    references = sum(row.word == "reference" for row in rows)
    ran = "was" if len(rows) == 1 else "were"
    fit = "" if total == _of_paper(comparison) else " that fit this scale"
    text = (
        f"{len(rows)} of the paper's {total} rows{fit} {ran} run.{agreement}"
        f"{_references(references, len(rows))}"
    )
    return f"{text}\n{ranking(comparison)}"


def _references(count: int, rows: int) -> str:
    """Say how many rows have no verdict, because others are compared with them."""
    if not count:
        return ""
    others = "" if count == rows else "other "
    if count == 1:
        return f" The {others}row is the reference."
    return f" The {others}{count} rows are references."


def _of_paper(comparison: Comparison) -> int:
    """Return the number of rows that the paper's table has."""
    return sum(arm.in_paper for arm in comparison.experiment.arms(SCALES["paper"]))


def ranking(comparison: Comparison) -> str:
    """Summarize the order of pairs and the winner, with the caveat of the scale."""
    parts, same = [], orders(comparison)
    if same.pairs == 1:
        which = "the same" if same.same else "another"
        parts.append(
            f"The one pair of rows that the paper orders has {which} order here, by "
            f"the means."
        )
    elif same.pairs:
        parts.append(
            f"Of {same.pairs} pairs of rows that the paper orders, {same.same} "
            f"{'has' if same.same == 1 else 'have'} the same order here, by the means."
        )
    if said := best_row(comparison):
        parts.append(said)
    if warning := few_seeds(_known(comparison)):
        parts.append(warning.strip())
    return " ".join([*parts, comparison.caveat])
