"""The content of the report of one experiment at one scale."""

from experiments.comparison import Comparison
from experiments.pages.blocks import Block, Code, Figure, Figures, Section, Text
from experiments.pages.style import MOST_LABELS
from experiments.report import curves, figures, heatmap, updates
from experiments.report.conditions import conditions, measured_on, run_command
from experiments.report.settings import settings_table
from experiments.report.tables import (
    DEVIATION,
    accuracy_table,
    arms_note,
    collapse_table,
    cost_table,
    stopped_note,
    verdict_table,
)

COLLAPSE = (
    "The measures are the spread of representations, the cosine between projections of "
    "different images and the rank of representations (byol_bnfree/diagnostics). "
    "A drifting run is on the way to a collapse, but may recover. The probe is the "
    "online linear classifier. It falls at the step from which its accuracy stays "
    "below half of its largest gain."
)
LAYERS = (
    "Mean over the seeds, on view 1 of the first training batch, in the order of the "
    "layers. If a layer's outputs hardly differ between images, the network has lost "
    "the information about them there."
)
COST = (
    "Medians over the runs. A step's time is the median over the log, so it contains "
    "neither compilation nor evaluation. The summary of a run has its mean speed "
    "instead, which is a little lower. Times of different machines cannot be compared."
)
EACH = (
    "The same curves for one arm at a time, with a line for each seed. The updates of "
    "the arm's layers follow, if they were logged."
)
VERDICTS = (
    "A row that fails in the paper (10 % or less) should fail here, and one that "
    "learns should learn. A row that learns should also be ahead of, level with or "
    "behind its reference as in the paper. The margin is 1 point, so this needs "
    "several seeds."
)
COLORS = (
    "Arms that differ in one setting form a family and share a colour. Each line has "
    "its name at the end."
)
ANOTHER_TASK = "The paper's figures belong to another task"
UPDATES = (
    "The norm of an update, divided by the norm of the weights that it changes. About "
    "1e-3 is common for kernels. If biases move faster than kernels, all images gain a "
    "common direction."
)


def answer_of(comparison: Comparison) -> list[Block]:
    """Return the answer: a paragraph for each statement, the first of them strong."""
    first, *others = comparison.statements()
    return [Text(first, strong=True), *map(Text, others)]


def blocks_of(comparison: Comparison) -> list[Block]:
    """Put the answer, the table, the figures and the conditions together."""
    main = [figures.accuracy(comparison)]
    if comparison.experiment.axis:
        main.insert(0, figures.along_axis(comparison))
    if comparison.experiment.cell_axes:
        main = heatmap.maps(comparison) + main
    return [
        *answer_of(comparison),
        *map(Text, _protocol(comparison)),
        accuracy_table(comparison),
        *_against_paper(comparison),
        Figures(main, "large"),
        _training(comparison),
        _collapse(comparison),
        *_layers(comparison),
        *_updates(comparison),
        Section("Time and memory", [Text(COST), cost_table(comparison)]),
        *_settings(comparison),
        _each_arm(comparison),
        Section("How it was run", _provenance(comparison)),
    ]


def _protocol(comparison: Comparison) -> list[str]:
    """Explain the columns."""
    experiment, row = comparison.experiment, comparison.rows[0]
    evaluation, data = row["config"]["evaluation"], row["config"]["data"]
    what = comparison.what
    has_paper = any(arm.in_paper for arm in comparison.arms)
    return [
        f"{what[0].upper()}{what[1:]}. Linear: logistic regression on frozen features "
        f"of whole images; a held-out tenth chooses one of 5 L2 strengths. kNN: "
        f"{evaluation['knn_k']} neighbours, temperature "
        f"{evaluation['knn_temperature']:g}. Both are fitted on {data['train_split']} "
        f"and measured on {measured_on(row)}. "
        f"{DEVIATION} An arm has learned if its linear accuracy is at least 2 points "
        f"above the untrained encoder's.",
        *filter(None, (stopped_note(comparison), arms_note(comparison))),
        *([f"{ANOTHER_TASK}: {experiment.paper}."] * has_paper),
        *([experiment.note] if experiment.note else []),
    ]


def _against_paper(comparison: Comparison) -> list[Section]:
    """Return nothing if no row that was run has a figure in the paper."""
    table = verdict_table(comparison)
    if table is None:
        return []
    caveat = Text(f"{VERDICTS} {comparison.caveat}")
    return [Section("Each row against the paper", [caveat, table])]


def _training(comparison: Comparison) -> Section:
    text = COLORS
    if len(comparison.results) > MOST_LABELS:
        text += " With many arms, only the highest and lowest of each family are named."
    drawn = Figures(curves.curves(comparison), "large")
    return Section("While training", [Text(text), drawn])


def _collapse(comparison: Comparison) -> Section:
    table = collapse_table(comparison)
    found = table or Text("No run drifted, collapsed or diverged.")
    return Section(
        "Collapse, and the measure that noticed it first", [Text(COLLAPSE), found]
    )


def _layers(comparison: Comparison) -> list[Section]:
    """Return nothing if no run has measured its layers."""
    if not any(row["layers"] for row in comparison.rows):
        return []
    drawn = Figures(curves.layers(comparison), "large")
    return [Section("Layer by layer", [Text(LAYERS), drawn])]


def _updates(comparison: Comparison) -> list[Section]:
    """Return nothing if no run has logged them."""
    drawn = updates.updates(comparison)
    if not drawn:
        return []
    return [Section("Size of updates", [Text(UPDATES), Figures(drawn, "large")])]


def _settings(comparison: Comparison) -> list[Section]:
    """Return nothing if the arms have the same settings."""
    table = settings_table(comparison)
    if table is None:
        return []
    text = Text("The arms differ in these settings. All others are equal.")
    return [Section("Settings of the arms", [text, table])]


def _each_arm(comparison: Comparison) -> Section:
    each = [
        Section(name, [Figures(_pictures_of(comparison, name), "strip")], True)
        for name in comparison.results
    ]
    return Section("The runs of each arm", [Text(EACH), *each])


def _pictures_of(comparison: Comparison, name: str) -> list[Figure]:
    moved = updates.updates_of_arm(comparison, name)
    drawn = curves.curves_of_arm(comparison.results[name])
    return [drawn, *([moved] if moved else [])]


def _provenance(comparison: Comparison) -> list[Block]:
    """Machines, versions and commands."""
    rows = comparison.rows
    commands = dict.fromkeys(map(run_command, rows))
    return [
        Text(
            f"{len(rows)} run{'s' * (len(rows) != 1)}. {conditions(rows)} Every line "
            f"of results.jsonl has the settings, versions, machine, curves and figures "
            f"of its run."
        ),
        Code("\n".join(commands)),
    ]
