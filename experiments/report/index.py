"""The page that leads to all reports: question, answer, figure and date of each."""

import html
from collections.abc import Sequence

from experiments.comparison import NOT_RUN, Comparison
from experiments.grid import Experiment
from experiments.pages.blocks import Figures, to_html
from experiments.report import figures
from experiments.results import moment

Found = Sequence[tuple[Experiment, list[Comparison]]]


def index_of(found: Found) -> str:
    """Write a part per experiment; those without runs come last, in one line each."""
    run = [_part(experiment, compared) for experiment, compared in found if compared]
    waiting = [experiment for experiment, compared in found if not compared]
    return "".join([*run, *map(_waiting, waiting)])


def _part(experiment: Experiment, compared: Sequence[Comparison]) -> str:
    page = f"{html.escape(experiment.name)}/report.html"
    question = html.escape(experiment.question)
    answers = "".join(
        _answer(c)
        for c in compared
        if c.scale.name != "smoke" or len(compared) == 1  # it answers nothing
    )
    newest = max(compared, key=lambda c: max(map(moment, c.rows)))
    draw = figures.along_axis if experiment.axis else figures.accuracy
    picture = to_html(Figures([draw(newest)], "large"))
    return (
        f'<h2><a href="{page}">{question}</a></h2><p class="when">{_when(compared)}</p>'
        f'{answers}<p class="when">The figure is of {newest.scale.name} scale.</p>'
        f"{picture}"
    )


def _answer(compared: Comparison) -> str:
    """Write the main statement of a scale, and smaller those that follow."""
    first, *others = map(html.escape, compared.statements())
    more = f'<p class="when">{" ".join(others)}</p>' if others else ""
    return f"<p>{compared.scale.name} scale: {first}</p>{more}"


def _when(compared: Sequence[Comparison]) -> str:
    """Return the number of runs, and the day of the newest run."""
    rows = [row for c in compared for row in c.rows]
    days = [row["time"][:10] for row in rows if row.get("time")]
    last = f", the last on {max(days)}" if days else ""
    return f"{len(rows)} run{'s' * (len(rows) != 1)}{last}"


def _waiting(experiment: Experiment) -> str:
    return f"<h2>{html.escape(experiment.question)}</h2><p>{NOT_RUN}</p>"
