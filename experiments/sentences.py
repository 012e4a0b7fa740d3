"""Sentences that answer a question from the results; each experiment has one."""

import statistics
from collections.abc import Callable

from experiments.comparison import Comparison, Result
from experiments.seeds import Difference

Sentence = Callable[[Comparison], str]
MARGIN = 1.0
"""Points of linear accuracy that an arm may be behind."""
PAPER_LEARNED = 10.0
"""Percent on ImageNet: the rows that failed in the papers are below it."""


def versus(a: str, b: str) -> Sentence:
    """Arm a against arm b."""

    def sentence(comparison: Comparison) -> str:
        if missing := _missing(comparison, a, b):
            return missing
        difference = comparison.difference(a, b)
        if difference is None:
            return f"Not answered yet: {a} and {b} have no seed in common."
        x, y = (comparison.results[name].mean for name in (a, b))
        more = "more" if difference.mean > 0 else "less"
        no = "no more" if difference.mean >= -MARGIN else "more"
        return (
            f"{a} reaches {x:.1f} % and {b} {y:.1f} % in linear accuracy, "
            f"{abs(difference.mean):.1f} points {more} ({interval(difference)}): it is "
            f"{no} than {MARGIN:.1f} point behind."
        )

    return sentence


def interval(difference: Difference) -> str:
    """Its interval and seeds, in words."""
    if difference.low is None:
        return "one seed, so there is no interval"
    return (
        f"95 % interval {difference.low:+.1f} to {difference.high:+.1f}, paired over "
        f"{difference.n} seeds"
    )


def agreement(comparison: Comparison) -> str:
    """Which arms learn or fail as in the paper."""
    known = [r for r in comparison.results.values() if r.arm.paper is not None]
    total = sum(arm.paper is not None for arm in comparison.arms)
    other = [r for r in known if r.learned != (r.arm.paper > PAPER_LEARNED)]
    run = f"all {total} rows"
    if len(known) < total:
        run = f"the {len(known)} rows that were run, of {total},"
    text = f"{len(known) - len(other)} of {run} learn or fail as in the paper"
    if not other:
        return f"{text}."
    named = [f"{r.arm.name} ({_state(r)}; paper {r.arm.paper:g} %)" for r in other]
    return f"{text}; differently: {', '.join(named)}."


def initialization(comparison: Comparison) -> str:
    """Whether a network without normalization learns, by how it starts."""
    names = ("none", "none_data_init")
    if absent := [name for name in names if name not in comparison.results]:
        return f"Not answered yet: no run of {' and '.join(absent)}."
    plain, started = (comparison.results[name] for name in names)
    if plain.learned:
        conclusion = "without normalization it learns here even as it is"
    elif started.learned:
        conclusion = "a data-dependent initialization is what it takes to learn"
    else:
        conclusion = "a data-dependent initialization is not enough to learn here"
    states = [f"{name}: {_state(r)}" for name, r in comparison.results.items()]
    return f"{'; '.join(states)}. So {conclusion}."


def flatness(comparison: Comparison) -> str:
    """How far each family's accuracy moves along the axis."""
    parts = []
    for name, results in comparison.families().items():
        results = sorted(
            (r for r in results if r.mean is not None), key=lambda r: -r.arm.x
        )
        if len(results) < 2:
            continue
        means = [r.mean for r in results]
        parts.append(
            f"{name} goes from {means[0]:.1f} % with {results[0].arm.x:g} images to "
            f"{means[-1]:.1f} % with {results[-1].arm.x:g}, its means within "
            f"{max(means) - min(means):.1f} points of each other{_deviation(results)}"
        )
    return f"{'; '.join(parts)}." if parts else "Not answered yet: too few runs."


def best_of_families(comparison: Comparison) -> str:
    """The best arm of each family, of how many."""
    parts = []
    for name, results in comparison.families().items():
        known = [r for r in results if r.mean is not None]
        if known:
            best = max(known, key=lambda r: r.mean)
            parts.append(
                f"{name} is best as {best.arm.name} ({best.mean:.1f} % linear, of "
                f"{len(known)} arms)"
            )
    return f"{'; '.join(parts)}." if parts else "Not answered yet: no figures."


def along_axis(comparison: Comparison) -> str:
    """Each family's accuracy at every value of the axis, and what failed there."""
    parts = []
    for name, results in comparison.families().items():
        known = [r for r in results if r.mean is not None]
        figures = [
            f"{r.mean:.1f} % at {r.arm.x:g}" + ("" if r.learned else f" ({_what(r)})")
            for r in sorted(known, key=lambda r: r.arm.x)
        ]
        if figures:
            parts.append(f"{name} reaches {', '.join(figures)}")
    if not parts:
        return "Not answered yet: no figures."
    return f"By {comparison.experiment.axis}, {'; '.join(parts)}."


def _missing(comparison: Comparison, *names: str) -> str | None:
    results = comparison.results
    missing = [n for n in names if n not in results or results[n].mean is None]
    if missing:
        return f"Not answered yet: no figure of {' and '.join(missing)}."
    return None


def _state(result: Result) -> str:
    """What became of an arm, with its figure."""
    what = _what(result)
    return what if result.mean is None else f"{what}, {result.mean:.1f} %"


def _what(result: Result) -> str:
    return "/".join(dict.fromkeys(result.outcomes))


def _deviation(results: list[Result]) -> str:
    """Of one seed, averaged over the arms."""
    figures = [list(result.percent("linear").values()) for result in results]
    deviations = [statistics.stdev(f) for f in figures if len(f) > 1]
    if not deviations:
        return " (one seed)"
    mean = statistics.fmean(deviations)
    return f" (standard deviation between seeds {mean:.1f})"
