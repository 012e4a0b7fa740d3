"""Checks of the arguments of programs that measure, before anything is measured."""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from byol_bnfree.errors import InputError, flag
from byol_bnfree.files import why_no_folder
from byol_bnfree.settings.types import LARGEST, check_types


def check_arguments(arguments: Any, of_any_sign: Collection[str] = ()) -> None:
    """Raise `InputError` unless all values have their types, and all numbers count.

    Numbers must be finite, and positive except those `of_any_sign`. Tuples must name
    something, and nothing twice. A field may always have its default.
    """
    check_types(arguments)
    for field in dataclasses.fields(arguments):
        name, value = field.name, getattr(arguments, field.name)
        if isinstance(value, bool) or value == field.default:
            continue
        if value == ():
            raise InputError(f"{flag(name)} is empty; name something, or omit it.")
        if isinstance(value, tuple) and len(set(value)) < len(value):
            given = " ".join(map(str, value))
            raise InputError(f"{flag(name)} is {given}; give each value once.")
        if isinstance(value, int | float) and value <= 0 and name not in of_any_sign:
            allowed = "0 or a positive" if field.default == 0 else "a positive"
            raise InputError(f"{flag(name)} is {value}; it must be {allowed} number.")


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise `InputError` for seeds that no run can have, for none and for repeated."""
    outside = not seeds or min(seeds) < 0 or max(seeds) > LARGEST
    if outside or len(set(seeds)) < len(seeds):
        given = " ".join(map(str, seeds)) or "none"
        raise InputError(
            f"seeds are {given}; give different ones from 0 to {LARGEST:,}."
        )


def check_folder(setting: str, folder: Path) -> None:
    """Raise `InputError` unless files can be written to a folder, or it can be made."""
    if (why := why_no_folder(folder)) is not None:
        raise InputError(
            f"{flag(setting)} cannot be {folder}: {why}; give another folder."
        )
