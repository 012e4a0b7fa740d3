"""Says what the user perhaps meant by a data set that is not there."""

import os
import re
from collections.abc import Sequence

from byol_bnfree.data.names import printable
from byol_bnfree.errors import InputError

PREFIXES = ("folder", "file", "path")  # in other letters, or of other programs
OURS = ("cifar10", "cifar100")


def refuse_path(name: str) -> None:
    """Raise `InputError` for a path, which needs the prefix `folder:`."""
    prefix, _, rest = name.partition(":")
    path = rest.removeprefix("//") if prefix.lower() in PREFIXES else name
    exists = os.path.isdir(os.path.expanduser(path))
    if path == name and not (os.sep in name and (exists or name[0] in "/.~")):
        return
    path = printable(path)
    if not exists:
        raise InputError(
            f"folder {path} does not exist; give the path of one, as folder:PATH."
        )
    raise InputError(
        f"{path} is a folder; for the pictures in it give --dataset=folder:{path}; "
        f"for a prepared data set give its name and --data-dir."
    )


def meant(name: str, there: Sequence[str]) -> str | None:
    """Return advice: a folder here, or a set whose name is written otherwise."""
    if os.path.isdir(name):
        path = printable(name)
        return f"for the pictures of the folder {path} give --dataset=folder:{path}"
    written = {_letters(known): known for known in (*OURS, *there)}
    known = written.get(_letters(name), name)
    return None if known == name else f"did you mean {known}?"


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()
