"""The settings in which the arms of a comparison differ."""

import dataclasses
from typing import Any, get_args

from byol_bnfree.config import HOW_NOT_WHAT, TrainConfig
from byol_bnfree.files import flatten, strict
from byol_bnfree.settings.names import ObjectiveName
from byol_bnfree.settings.norms import part_norms
from experiments.comparison import Comparison
from experiments.grid import recipe_of
from experiments.pages.blocks import Table

NORMS = ("norm", *(f"{part}_norm" for part in part_norms(TrainConfig())))


def settings_table(comparison: Comparison) -> Table | None:
    """Write one line per arm and one column per setting that differs between arms.

    None if all arms have the same settings, as one arm has. Each part's norm has a
    column if the parts of an arm have different norms. A setting of another objective
    is left empty.
    """
    configs = {
        name: recipe_of(comparison.scale, result.arm.flags)
        for name, result in comparison.results.items()
    }
    mixed = any(len(set(part_norms(c).values())) > 1 for c in configs.values())
    found = {name: _settings(config, mixed) for name, config in configs.items()}
    columns = dict.fromkeys(name for settings in found.values() for name in settings)
    differing = [
        column
        for column in columns
        if len({_text(settings.get(column)) for settings in found.values()}) > 1
    ]
    if not differing:
        return None
    rows = [
        (name, *(_text(settings.get(column)) for column in differing))
        for name, settings in found.items()
    ]
    return Table(("arm", *differing), rows, words=range(len(differing) + 1))


def _settings(config: TrainConfig, mixed: bool) -> dict[str, Any]:
    """Return what shapes the training, by the names of the command line's flags."""
    parts = {f"{part}_norm": norm for part, norm in part_norms(config).items()}
    norms = parts if mixed else {"norm": parts["encoder_norm"]}
    unused = set(get_args(ObjectiveName)) - {config.objective}
    left_out = HOW_NOT_WHAT | {"seed", *NORMS, *unused}
    others = strict(dataclasses.asdict(config)).items()
    return norms | flatten({k: v for k, v in others if k not in left_out})


def _text(value: Any) -> str:
    """Write a value as on the command line; nothing for a setting that has none."""
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
