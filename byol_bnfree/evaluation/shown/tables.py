"""Tables of results. Results that cannot be compared never share a column."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.evaluation.bench import SUPERVISED
from byol_bnfree.evaluation.kept.store import Row
from byol_bnfree.evaluation.outcome import PLAIN

COLUMNS = {
    "knn": "kNN",
    "linear": "linear, {fitted}",
    "linear_cached": "linear, cached",
    "semi_supervised": "{percent:.4g} % labels",
    "finetune": "fine-tuned",
    "supervised": "supervised",
    "robustness": "{corruption}",
    "transfer": "{method}",
    "segmentation": "segmentation, {head} head, {encoder} encoder{with_norms}",
    "depth": "depth, {head} head, {encoder} encoder{with_norms}",
    "detection": "detection, {head} head, {encoder} encoder{with_norms}",
}
DENSE = (
    "dense tasks: mIoU, %; depth within 1.25, %, relative and rms error; AP50 (VOC), "
    "AP50 and AP (COCO), %"
)
TITLES = {
    "segmentation": DENSE,
    "depth": DENSE,
    "detection": DENSE,
    "robustness": "corrupted images, %: top-1 of linear, cached; mean over five levels",
    "transfer": "other data sets, %: top-1 unless stated",
}
TITLE = "test split, %; top-1 / top-5"
DIGITS = 6  # of the checksum of weights
UNBROKEN = 140  # characters per line where no terminal gives a width
UNITS = {
    **{"top1": "", "top5": "", "mean_per_class": " per class", "map11": " mAP"},
    **{"miou": "", "pct1": "", "ap50_voc": "", "ap50_coco": "", "ap_coco": ""},
}


def figures_table(rows: list[Row], title: str = TITLE) -> Table:
    """Build a table with a row per data set and encoder, and a column per protocol.

    Encoders of one name and step are told apart by a checksum. Data sets of one name
    are told apart by their place, sizes or checksum. If one protocol was measured there
    with several settings or seeds, each has a column of its own. Of rows that still
    share a cell, such as those of other versions, the last one counts.
    """
    places = _places(rows)
    columns = [column for _, column in sorted({*places})]
    table = Table(
        title=Text(title, style="table.title"),
        title_justify="left",
        caption_justify="left",
    )
    for column in ("data", "network", "step", *columns):
        table.add_column(
            Text(column),
            justify="left" if column in ("data", "network") else "right",
            min_width=max(len(word) for word in column.split()),
        )
    lines: dict[Line, dict[str, str]] = {}
    for row, (_, column) in zip(rows, places, strict=True):
        lines.setdefault(_line(row), {})[column] = _cell(row["figures"])
    named = _data_names(lines)
    subjects = {(line.dataset, line.network, line.step, line.weights) for line in lines}
    encoders = Counter(subject[:3] for subject in subjects)
    for of, cells in lines.items():
        network = of.network
        if encoders[of.dataset, network, of.step] > 1:
            network = f"{network} {of.weights[:DIGITS]}"
        line = named[of], network, of.step, *(cells.get(name, "") for name in columns)
        table.add_row(*map(Text, line))  # a name such as a[b] is not rich's markup
    table.caption = _legend(lines, named.values())
    return table


class Line(NamedTuple):
    """An encoder on the pictures of two splits."""

    dataset: str
    network: str
    step: str
    weights: str
    """A checksum of the weights, and of the settings of a file of weights."""
    data: str
    """JSON of the place and of both splits: [location, train, test]."""


def _line(row: Row) -> Line:
    identity = row["identity"]
    data = [identity.get(key) for key in ("location", "train", "test")]
    weights = identity["weights"]
    if "encoder" in identity:  # equal weights may belong to other networks
        weights = checksum(weights, identity["encoder"])
    return Line(
        identity["dataset"],
        identity["network"],
        str(identity["step"]),
        weights,
        json.dumps(data, sort_keys=True),
    )


def _legend(lines: Iterable[Line], names: Iterable[str]) -> Text | None:
    """Explain the words of a table that are not common; None if it has none."""
    found = []
    networks = {line.network for line in lines}
    if "online" in networks and len(networks) > 1:
        found.append("online: the trained network")
    if "random" in networks:
        found.append("random: the untrained network")
    if SUPERVISED in networks:
        found.append("supervised: the same after training with labels")
    if any(name.endswith(" images") for name in names):
        found.append("A + B images: A to fit on, B to test on")
    return Text("; ".join(found), style="table.caption") if found else None


def _data_names(lines: Iterable[Line]) -> dict[Line, str]:
    """Return the name of every line's data, with what tells it from its namesakes."""
    known: dict[str, list[str]] = {}
    for line in lines:
        known.setdefault(line.dataset, []).append(line.data)
    endings: dict[str, dict[str, str]] = {}
    for name, several in known.items():
        variants = [*dict.fromkeys(several)]
        labels = ([label(data) for data in variants] for label in LABELS)
        telling = (made for made in labels if len({*made}) == len(variants))
        chosen = next(telling) if len(variants) > 1 else [""]
        endings[name] = dict(zip(variants, chosen, strict=True))
    return {
        line: f"{line.dataset} {endings[line.dataset][line.data]}".rstrip()
        for line in lines
    }


def _sizes(data: str) -> str:
    _, *splits = json.loads(data)
    return " + ".join(f"{(split or {}).get('images', 0):,}" for split in splits)


LABELS: tuple[Callable[[str], str], ...] = (
    lambda data: json.loads(data)[0] or "",
    lambda data: f"{_sizes(data)} images",
    lambda data: checksum(data)[:DIGITS],
)
"""What tells data sets of one name apart: the first of these that differs for all."""


def _places(rows: list[Row]) -> list[tuple[tuple[int, float], str]]:
    """Return the sort key and the title of each row's column.

    A title names the settings in which rows of one line differ.
    """
    cells: dict[Any, list[Row]] = {}
    for row in rows:
        cells.setdefault((_place(row), _line(row)), []).append(_settings(row))
    varying: dict[Any, set[str]] = {}
    for (place, _), several in cells.items():
        names = {name for settings in several for name in settings}
        varying.setdefault(place, set()).update(
            name
            for name in names
            if any(s.get(name) != several[0].get(name) for s in several)
        )

    def place(row: Row) -> tuple[tuple[int, float], str]:
        """Return the column of a row, with the settings that tell it from others."""
        key, title = _place(row)
        settings = _settings(row)
        names = sorted(varying[key, title] & settings.keys())
        return key, ", ".join([title, *(f"{n} {settings[n]}" for n in names)])

    return [place(row) for row in rows]


def _settings(row: Row) -> Row:
    """Return the settings and the seed of a measurement."""
    identity = row["identity"]
    seed = {"seed": identity["seed"]} if "seed" in identity else {}
    return identity["settings"] | seed


def _place(row: Row) -> tuple[tuple[int, float], str]:
    """Return the sort key and the title of the column of a row's protocol."""
    protocol, settings = row["identity"]["protocol"], row["identity"]["settings"]
    share = settings.get("share", 0.0)
    fitted = _fitted(settings)
    norms = settings.get("norms") if settings.get("encoder") != "frozen" else None
    title = COLUMNS[protocol].format(
        percent=100 * share,
        fitted=fitted,
        with_norms=f", {norms} norms" if norms else "",
        **settings,
    )
    return (list(COLUMNS).index(protocol), share), title


def _fitted(settings: dict[str, Any]) -> str:
    """Describe the images that chose the rate of a linear evaluation, and the fit."""
    count = settings.get("held_out")
    held_out = "a tenth held out" if count is None else f"{count:,} held out"
    return held_out + (", refitted on all" if settings.get("refit") else "")


def _cell(figures: dict[str, float]) -> str:
    known = {name: value for name, value in figures.items() if value is not None}
    shares = [f"{100 * known[k]:.1f}{u}" for k, u in UNITS.items() if k in known]
    plain = [f"{known[k]:.3f}{unit}" for k, unit in PLAIN.items() if k in known]
    return " / ".join(shares + plain)


def _can_be_shown(row: Row) -> bool:
    """Return True if a row has a known protocol and all that its line needs."""
    try:
        _place(row), _cell(row["figures"]), _settings(row)
        _data_names([_line(row)]), _sizes(_line(row).data)
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
    return True


def print_tables(rows: list[Row]) -> None:
    """Print the tables. Corrupted images and other data sets have their own tables.

    Rows that other versions or programs wrote are passed over, with a note.
    """
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, UNBROKEN)
    groups: dict[str, list[Row]] = {}
    shown = [row for row in rows if _can_be_shown(row)]
    if len(shown) < len(rows):
        print(
            f"note: {len(rows) - len(shown):,} stored results of another version or "
            f"program are not in the table",
            flush=True,
        )
    for row in shown:
        title = TITLES.get(row["identity"]["protocol"], TITLE)
        groups.setdefault(title, []).append(row)
    for title, group in groups.items():
        console.print(figures_table(group, title))
