"""Sentences that answer an experiment's question from its results."""

from collections.abc import Callable, Collection, Sequence

from experiments.comparison import (
    Comparison,
    Result,
    common_seeds,
    linear_difference,
)
from experiments.decisions import (
    MARGIN,
    decision,
    falls,
    few_seeds,
    first_place,
    interval,
)
from experiments.seeds import verdict

Sentence = Callable[[Comparison], str]


def both(first: Sentence, second: Sentence) -> Sentence:
    """Join two answers as two statements.

    Warning of single seeds and caveat are at the end, once.
    """

    def sentence(comparison: Comparison) -> str:
        before, after = first(comparison), second(comparison)
        warning = few_seeds(list(comparison.results.values()))
        for repeated in (comparison.caveat, warning.strip()):
            if repeated and repeated in after:
                before = before.removesuffix(repeated).rstrip()
        return f"{before}\n{after}"

    return sentence


def versus(a: str, b: str) -> Sentence:
    """Compare arm a with arm b."""

    def sentence(comparison: Comparison) -> str:
        if absent := [name for name in (a, b) if name not in comparison.results]:
            return f"Not answered yet: no run of {' and '.join(absent)}."
        if None in (comparison.results[name].mean for name in (a, b)):
            return _by_outcome(comparison.results[a], comparison.results[b])
        difference = comparison.difference(a, b)
        if difference is None:
            return f"Not answered yet: {a} and {b} have no seed in common."
        pair = [comparison.results[name] for name in (a, b)]
        x, y = (result.mean_over(common_seeds(pair)) for result in pair)
        more = "more" if difference.mean > 0 else "less"
        return (
            f"{a} reaches {x:.1f} % and {b} {y:.1f} % in linear accuracy, "
            f"{abs(difference.mean):.1f} points {more} ({interval(difference)}). "
            f"{decision(a, difference)}"
        )

    return sentence


def agreement(comparison: Comparison) -> str:
    """Count the arms that learn or fail as in the paper."""
    ran = [r for r in comparison.results.values() if r.arm.in_paper]
    single = all(len(r.rows) == 1 for r in ran)
    known = [r for r in ran if not r.undecided and (single or r.agreed is not None)]
    total = sum(arm.in_paper for arm in comparison.arms)
    other = [r for r in known if r.learned == r.arm.fails_in_paper]
    run = f"{total} rows"
    if len(known) < total:
        what = "decided" if len(known) < len(ran) else "run"
        run = f"{len(known)} rows that were {what} (the paper has {total})"
    text = f"{len(known) - len(other)} of {run} learn or fail as in the paper"
    if known and single:
        text = f"In one seed, {text}"
    for learned, what in ((True, "Learned"), (False, "Failed")):
        if named := [r.arm.name for r in other if r.learned is learned]:
            text += f". {what} here, unlike the paper: {', '.join(named)}"
    if named := [r.arm.name for r in ran if r.undecided]:
        text += (
            f". Not decided, because only the projections had collapsed when the run "
            f"was stopped: {', '.join(named)}"
        )
    return f"{text}.{few_seeds(ran)}"


def initialization(comparison: Comparison) -> str:
    """Say if a network without normalization learns, for each initialization."""
    names = ("none", "none_data_init")
    if absent := [name for name in names if name not in comparison.results]:
        return f"Not answered yet: no run of {' and '.join(absent)}."
    plain, started = (comparison.results[name] for name in names)
    single = len(plain.rows) == len(started.rows) == 1
    open_ends = None in (plain.agreed, started.agreed) and not single
    if open_ends and not (plain.undecided or started.undecided):
        conclusion = (
            "it is not decided if a network without normalization learns, because "
            "seeds disagree or an arm has one seed"
        )
    elif plain.undecided or (started.undecided and not plain.learned):
        conclusion = (
            "it is not decided if a network without normalization learns, because a "
            "run was stopped when only its projections had collapsed"
        )
    elif plain.learned:
        conclusion = (
            "a network without normalization learns with the standard initialization"
        )
    elif started.learned:
        conclusion = (
            "a network without normalization learns only with a data-dependent "
            "initialization"
        )
    else:
        conclusion = (
            "a network without normalization does not learn with either initialization"
        )
    states = [f"{name}: {_state(r)}" for name, r in comparison.results.items()]
    few = few_seeds([plain, started])
    so = "In this seed" if single else "Here"
    return f"{'; '.join(states)}. {so} {conclusion}.{few} {comparison.caveat}"


def flatness(comparison: Comparison) -> str:
    """Describe how each family's accuracy changes along the axis.

    If an arm has no accuracy, it is not said whether the others fall.
    """
    parts = []
    for name, placed in comparison.families().items():
        placed = sorted(
            (r for r in placed if r.arm.x is not None), key=lambda r: -r.arm.x
        )
        results = [r for r in placed if r.mean is not None]
        lost = failures(placed)
        if len(results) < 2:
            parts += [lost] if lost else []
            continue
        if not (seeds := common_seeds(results)):
            parts.append(f"The arms of {name} have no seed in common.")
            continue
        first, last = results[0], results[-1]
        means = [r.mean_over(seeds) for r in results]
        difference = linear_difference(last, first)
        decided = f" {falls(difference)}" if difference and not lost else ""
        decided += f" {lost}" if lost else ""
        parts.append(
            f"{name} goes from {means[0]:.1f} % with {first.arm.x:g} images to "
            f"{means[-1]:.1f} % with {last.arm.x:g}{_over(results, seeds)}. Its means "
            f"differ by at most {max(means) - min(means):.1f} points.{decided}"
        )
    return "\n".join(parts) or "Not answered yet: too few runs."


def best_of_families(comparison: Comparison) -> str:
    """Name the best arm of each family, and say if all others are behind it."""
    parts = []
    for name, results in comparison.families().items():
        known = [r for r in results if r.mean is not None]
        if not known:
            continue
        if not (seeds := common_seeds(known)):
            parts.append(f"The arms of {name} have no seed in common.")
            continue
        best, *others = sorted(known, key=lambda r: -r.mean_over(seeds))
        text = (
            f"The best arm of {name} is {best.arm.name} ({best.mean_over(seeds):.1f} % "
            f"linear, {len(known)} arm{'s' * (len(known) != 1)}{_over(known, seeds)})"
        )
        if others:
            second = others[0]
            text += f"; the second is {second.arm.name} "
            text += f"({second.mean_over(seeds):.1f} %). "
            rivals = [r for r in results if r is not best]
            text += first_place(best, rivals, seeds)
        lost = failures(results)
        parts.append(f"{text}. {lost}".strip())
    if not parts:
        return "Not answered yet: no figures."
    return "\n".join([*parts, comparison.caveat])


def along_axis(comparison: Comparison) -> str:
    """List each family's accuracy at every value of the axis, and the failures."""
    parts = []
    for name, results in comparison.families().items():
        placed = sorted(
            (r for r in results if r.arm.x is not None), key=lambda r: r.arm.x
        )
        figures = [
            f"no accuracy at {r.arm.x:g} ({r.counted})"
            if r.mean is None
            else f"{r.mean:.1f} % at {r.arm.x:g}{r.survivors}"
            + ("" if r.learned else f" ({r.counted})")
            for r in placed
        ]
        if figures:
            parts.append(f"{name} has {', '.join(figures)}")
    if not parts:
        return "Not answered yet: no figures."
    against = _against_reference(comparison)
    axis = comparison.experiment.axis
    return f"Linear accuracy by {axis}: {'; '.join(parts)}.{against}"


def _against_reference(comparison: Comparison) -> str:
    """Say which values of the axis are behind the reference arm's, per family."""
    x = next(a.x for a in comparison.arms if a.name == comparison.reference)
    parts, decided = [], False
    for name, results in comparison.families().items():
        at = {r.arm.x: r for r in results if r.mean is not None and r.arm.x is not None}
        found: dict[str, list[str]] = {}
        for place in sorted(at.keys() - {x}) if x in at else []:
            difference = linear_difference(at[place], at[x])
            if difference is not None:
                found.setdefault(verdict(difference, MARGIN), []).append(f"{place:g}")
        decided |= bool(found.keys() - {"not decided yet"})
        said = [f"{what} at {', '.join(places)}" for what, places in found.items()]
        if said:
            parts.append(f"{name} is {'; '.join(said)}")
    if not decided:
        results = list(comparison.results.values())
        return few_seeds(results) or " No difference between values is decided yet."
    return f" Compared with {x:g} (margin {MARGIN:g} point): {'. '.join(parts)}."


def failures(results: Sequence[Result]) -> str:
    """Name the arms that have no accuracy, and how their runs ended."""
    lost = [f"{r.arm.name} ({r.counted})" for r in results if r.mean is None]
    return f"Without an accuracy: {', '.join(lost)}." if lost else ""


def _by_outcome(a: Result, b: Result) -> str:
    """Compare two arms of which one or both have no accuracy."""
    parts = [
        f"{r.arm.name} reaches {r.mean:.1f} % in linear accuracy{r.survivors}"
        for r in (a, b)
        if r.mean is not None
    ]
    said = " ".join([failures([a, b]), *(f"{part}." for part in parts)])
    if {a.agreed, b.agreed} == {True, False}:
        loser, winner = (a, b) if b.agreed else (b, a)
        return f"{said} {loser.arm.name} is behind {winner.arm.name}: it fails."
    return f"{said} Not decided yet."


def _over(results: Sequence[Result], seeds: Collection[int]) -> str:
    """Say over how many seeds the means are, if an arm has more."""
    if all(len(r.percent("linear")) == len(seeds) for r in results):
        return ""
    return f", over {len(seeds)} common seed{'s' * (len(seeds) != 1)}"


def _state(result: Result) -> str:
    """Describe the outcome of an arm, with its accuracy."""
    if result.mean is None:
        return result.counted
    return f"{result.counted}, {result.mean:.1f} %{result.survivors}"
