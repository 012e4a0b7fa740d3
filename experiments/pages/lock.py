"""One command at a time makes the pages of a folder."""

from contextlib import AbstractContextManager
from pathlib import Path

from byol_bnfree.files import locked


def writing(folder: Path) -> AbstractContextManager[None]:
    """Wait until no other command writes pages of `folder`, and keep others waiting.

    Read the results inside, so that the pages which are written last are the newest.
    """
    return locked(folder / ".report.lock")
