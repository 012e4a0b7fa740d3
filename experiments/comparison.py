"""Compares the arms of an experiment."""

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from byol_bnfree.settings.objective_checks import uses_predictor
from experiments.collapse import aside, only_projections, outcome
from experiments.grid import Arm, Experiment, arm_settings, recipe_of
from experiments.results import Row, moment
from experiments.scales import Scale
from experiments.seeds import Difference, paired_difference, spread

NOT_RUN = "It has no runs of its own yet."


class Result(NamedTuple):
    """The runs of an arm, by seed."""

    arm: Arm
    rows: Mapping[int, Row]

    def percent(self, figure: str, network: str = "trained") -> dict[int, float]:
        """Return `knn` or `linear` accuracy in percent, of each seed that has it."""
        found = {
            seed: (row["summary"] or {}).get(figure, {}).get(network)
            for seed, row in self.rows.items()
        }
        return {k: 100 * value for k, value in found.items() if value is not None}

    @property
    def lost(self) -> int:
        """Number of runs without a linear accuracy: they diverged or were stopped."""
        return len(self.rows) - len(self.percent("linear"))

    @property
    def mean(self) -> float | None:
        """Mean linear accuracy, percent; None if some have none and half failed.

        The few runs that are left would then speak for those that are lost.
        """
        known = spread(self.percent("linear"))
        return known.mean if known and (self.learned or not self.lost) else None

    @property
    def survivors(self) -> str:
        """` (2 of 3 runs)` if a mean leaves out runs that are lost, otherwise empty."""
        total = len(self.rows)
        return f" ({total - self.lost} of {total} runs)" if self.lost else ""

    def mean_over(self, seeds: Collection[int]) -> float:
        """Return the mean linear accuracy of some seeds that have one, percent."""
        found = self.percent("linear")
        return statistics.fmean(found[seed] for seed in seeds)

    @property
    def outcomes(self) -> list[str]:
        """The outcome of every run."""
        return [outcome(row) for row in self.rows.values()]

    @property
    def counted(self) -> str:
        """The outcomes in words: `collapsed`, or `learned 2, diverged 1`.

        A run that learned may end near a collapse, and is `learned (drifting)`. One
        that recovered from a collapse is `learned (collapsed at first)`.
        """
        words = [
            f"{kind} ({said})" if kind == "learned" and (said := aside(row)) else kind
            for kind, row in zip(self.outcomes, self.rows.values(), strict=True)
        ]
        if len(words) == 1:
            return words[0]
        return ", ".join(f"{word} {words.count(word)}" for word in dict.fromkeys(words))

    @property
    def learned(self) -> bool:
        """True if most runs learned."""
        return self._most(0)

    @property
    def undecided(self) -> bool:
        """True if most runs may have learned: of some only the projections collapsed.

        Papers judge the representation, and these runs have no accuracy of it.
        """
        stopped = sum(map(only_projections, self.rows.values()))
        return not self.learned and self._most(stopped)

    @property
    def failed(self) -> bool:
        """True if it is known that most runs did not learn."""
        return not (self.learned or self.undecided)

    @property
    def agreed(self) -> bool | None:
        """True if all runs learned, False if none did; None if that is not decided.

        It takes two runs that agree, and none of which only the projections collapsed.
        """
        learned = {outcome == "learned" for outcome in self.outcomes}
        open_ends = any(map(only_projections, self.rows.values()))
        decided = len(self.rows) > 1 and len(learned) == 1 and not open_ends
        return learned.pop() if decided else None

    def _most(self, more: int) -> bool:
        """Say if the runs that learned, and so many more, are most of all."""
        return (self.outcomes.count("learned") + more) * 2 > len(self.outcomes)


class Comparison(NamedTuple):
    """All results of an experiment at one scale. Arms without a run are left out."""

    experiment: Experiment
    scale: Scale
    arms: Sequence[Arm]
    results: Mapping[str, Result]

    @property
    def reference(self) -> str:
        """The arm that the others are compared with."""
        return self.experiment.reference or self.arms[0].name

    @property
    def rows(self) -> list[Row]:
        """The runs of all arms."""
        return [row for found in self.results.values() for row in found.rows.values()]

    @property
    def what(self) -> str:
        """Data, network and length of its runs, in words."""
        return self.experiment.what.get(self.scale.name, self.scale.what)

    @property
    def caveat(self) -> str:
        """Why its results cannot equal the paper's, in a sentence."""
        of = self.experiment
        epochs = of.epochs.get(self.scale.name)
        return self.scale.caveat_beside(of.paper_epochs, epochs, of.byol)

    def unused(self, name: str) -> tuple[str, ...]:
        """Return the parts of the network that the loss of an arm does not use."""
        config = recipe_of(self.scale, self.results[name].arm.flags)
        return () if uses_predictor(config) else ("predictor",)

    def difference(self, a: str, b: str) -> Difference | None:
        """Return the difference in linear accuracy, in percentage points."""
        if a not in self.results or b not in self.results:
            return None
        return linear_difference(self.results[a], self.results[b])

    def statements(self) -> list[str]:
        """Return the conclusions, the main one first, or what is missing for them."""
        if not self.results:
            return [NOT_RUN]
        return self.experiment.answer(self).split("\n")

    def answer(self) -> str:
        """Return all statements in one paragraph."""
        return " ".join(self.statements())

    def families(self) -> dict[str, list[Result]]:
        """Return the results of each curve, in the order of its axis.

        A curve that begins with an arm of another family has at least one of its own.
        """
        found: dict[str, list[Result]] = {}
        for result in self.results.values():
            found.setdefault(result.arm.family, []).append(result)
        for result in self.results.values():
            for family in result.arm.starts:
                if family in found:
                    found[family].insert(0, result)
        return found


def linear_difference(
    a: Result, b: Result, seeds: Collection[int] | None = None
) -> Difference | None:
    """Return the difference in linear accuracy, in points.

    It is over the seeds that both have, or over those of `seeds`.
    """
    both = [
        {s: v for s, v in r.percent("linear").items() if seeds is None or s in seeds}
        for r in (a, b)
    ]
    found = paired_difference(*both)
    return found and found._replace(lost=a.lost + b.lost)


def common_seeds(results: Iterable[Result]) -> set[int]:
    """Return the seeds in which all of these arms have a linear accuracy."""
    return set.intersection(*(set(r.percent("linear")) for r in results))


def compare(experiment: Experiment, scale: Scale, rows: Sequence[Row]) -> Comparison:
    """Collect the newest row of every arm and seed with today's settings.

    Files may have been joined, so the row's own time counts. A run that was stopped at
    its collapse is taken only if no other went on.
    """
    arms, settings = experiment.arms(scale), arm_settings(experiment, scale)
    results = {}
    for arm in arms:
        wanted = (scale.name, arm.name, settings[arm.name])
        found = [
            row for row in rows if (row["scale"], row["arm"], row["settings"]) == wanted
        ]
        found.sort(key=lambda row: (not _stopped(row), moment(row)))
        own = {row["seed"]: row for row in found}
        if own:
            results[arm.name] = Result(arm, dict(sorted(own.items())))
    return Comparison(experiment, scale, arms, results)


def _stopped(row: Row) -> bool:
    """Return True for a run that was ended at its collapse, without figures."""
    return row["summary"] is None and bool(row.get("collapsed"))


def older_rows(experiment: Experiment, scale: Scale, rows: Sequence[Row]) -> list[Row]:
    """Return the rows at a scale that `compare` leaves out: of no arm of today."""
    settings = arm_settings(experiment, scale)
    return [
        row
        for row in rows
        if row["scale"] == scale.name and settings.get(row["arm"]) != row["settings"]
    ]
