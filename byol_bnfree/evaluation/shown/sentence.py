"""A stored result as one line of text."""

from byol_bnfree.evaluation.kept.store import Row
from byol_bnfree.evaluation.outcome import PLAIN

WORDS = {"strength": "L2 strength", "rate": "learning rate"}
KINDS = ("share", "corruption", "method")  # settings that distinguish measurements


def sentence(row: Row) -> str:
    """Format a row of the store as one line of text."""
    identity, settings = row["identity"], row["identity"]["settings"]
    kinds = [settings[key] for key in KINDS if key in settings]
    subject = " ".join(map(str, [*kinds, identity["dataset"], identity["network"]]))
    figures = ", ".join(
        _words(name, value)
        for name, value in row["figures"].items()
        if isinstance(value, float | int)
    )
    chosen = ", ".join(map(_chosen, row["chosen"], row["chosen"].values()))
    chosen = f"; chosen: {chosen}" if chosen else ""
    return (
        f"{identity['protocol']:<14} {subject}: "
        f"{figures}{chosen}  ({row['seconds']:.1f} s)"
    )


def _chosen(name: str, value: float) -> str:
    """Put a chosen setting into words, or the score that it was chosen for."""
    if name.startswith("validation_"):
        metric = name.removeprefix("validation_")
        return f"{_words(metric, float(value))} on held-out images"
    return f"{WORDS.get(name, name.replace('_', ' '))} {value:.4g}"


def _words(name: str, value: float | int) -> str:
    if isinstance(value, int):
        return f"{value:,} {name}"
    return f"{name} {value:.4f}" if name in PLAIN else f"{name} {100 * value:.2f} %"
