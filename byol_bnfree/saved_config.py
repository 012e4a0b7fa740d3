"""config.json back as a configuration; needs no JAX."""

import dataclasses
from typing import Any

from byol_bnfree.config import Extension
from byol_bnfree.errors import InputError

ITEMS = {"extensions": Extension}
"""The classes of settings that are several."""


def config_from_dict(kind: type, saved: dict[str, Any]) -> Any:
    """A configuration from the dict that `dataclasses.asdict` made of it.

    Fields that are missing take their defaults, as in a file of an older version.

    Raises:
      InputError: a field that this version does not know.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(saved.keys() - fields.keys())
    if unknown:
        raise InputError(
            f"the saved configuration has the unknown field {unknown[0]}; load it with "
            f"the version of byol_bnfree that wrote it."
        )

    def value(name: str, raw: Any) -> Any:
        default = fields[name].default
        if dataclasses.is_dataclass(default):
            return config_from_dict(type(default), raw)
        if name in ITEMS:
            return tuple(config_from_dict(ITEMS[name], item) for item in raw)
        return tuple(raw) if isinstance(raw, list) else raw

    return kind(**{name: value(name, raw) for name, raw in saved.items()})
