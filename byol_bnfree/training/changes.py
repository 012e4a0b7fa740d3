"""Differences between the settings of a resumed run and those it was started with."""

from typing import Any

from byol_bnfree.errors import named
from byol_bnfree.files import flatten, strict


def compare_config(
    saved: dict[str, Any], now: dict[str, Any], free: frozenset[str] | set[str]
) -> list[str]:
    """List the settings that differ between a run's config.json and the present ones.

    Args:
      saved: nested dict, as read from JSON.
      now: nested dict, as from `dataclasses.asdict`.
      free: dotted names that may change on resume; "run" covers all of "run.*".

    Returns:
      One line such as "optim.momentum: 0.9 -> 0.99" for each setting that may not
      change.
    """
    old, new = flatten(strict(saved)), flatten(strict(now))
    return [
        f"{named(name)}: {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
        for name in old | new
        if old.get(name, "absent") != new.get(name, "absent")
        and not any(name == f or name.startswith(f + ".") for f in free)
    ]


def with_later_settings(saved: dict[str, Any], defaults: dict[str, Any]):
    """Return a config.json with the settings that a later version added.

    A new setting's default is what a run did before there was the setting.
    """
    filled = dict(saved)
    for name, value in defaults.items():
        if isinstance(value, dict) and isinstance(saved.get(name), dict):
            filled[name] = with_later_settings(saved[name], value)
        else:
            filled.setdefault(name, value)
    return filled
