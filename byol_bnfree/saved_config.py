"""Reads config.json back into a configuration. It needs no JAX."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from byol_bnfree.config import Extension
from byol_bnfree.errors import InputError
from byol_bnfree.files import expanded

ITEMS = {"extensions": Extension}
"""Classes of settings that are lists."""


def config_from_dict(kind: type, saved: dict[str, Any]) -> Any:
    """Build a configuration from the dict that `dataclasses.asdict` made of it.

    Missing fields get their defaults, as in a file of an older version.

    Raises:
      InputError: for a field that this version does not know, and for other content.
    """
    if not isinstance(saved, dict):
        raise InputError(
            f"the saved configuration has {str(saved)[:40]} where the fields of "
            f"{kind.__name__} should be; restore config.json."
        )
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(saved.keys() - fields.keys())
    if unknown:
        raise InputError(
            f"the saved configuration has the unknown field {unknown[0]}; load it with "
            f"the version of byol_bnfree that wrote it."
        )

    needed = (n for n, field in fields.items() if field.default is dataclasses.MISSING)
    if missing := [name for name in needed if name not in saved]:
        raise InputError(
            f"the saved configuration has no {missing[0]} in {str(saved)[:40]}; "
            f"restore config.json."
        )

    def value(name: str, raw: Any) -> Any:
        default = fields[name].default
        if dataclasses.is_dataclass(default):
            return config_from_dict(type(default), raw)
        if name in ITEMS and isinstance(raw, list):
            return tuple(config_from_dict(ITEMS[name], item) for item in raw)
        return tuple(raw) if isinstance(raw, list) else raw

    return kind(**{name: value(name, raw) for name, raw in saved.items()})


def placed(dataset: Any, described: Mapping[str, Any]) -> Any:
    """Return the --dataset of a run so that it means the same in every working folder.

    Earlier versions saved folder:PATH as it was given. `described` is the content of
    dataset.json, which says where the folder was.
    """
    kind, folder, path = str(dataset).partition("folder:")
    place = described.get("location")
    if kind or not folder or not place or expanded(path).is_absolute():
        return dataset
    return f"folder:{place}"
