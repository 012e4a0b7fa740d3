"""Pictures that an evaluation leaves out because they cannot be decoded."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from byol_bnfree.data.sources import Source
from byol_bnfree.evaluation.images.subset import Subset
from byol_bnfree.files import write_json


def usable_only(source: Source, folder: Path) -> Source:
    """The images that can be decoded; a figure counts no image twice.

    Prints how many of how many, and writes which ones are left out, and why, into
    `folder`. The file is read the next time, so that not all is decoded again.
    """
    if source.in_memory and not source.skipped:
        return source
    name = f"skipped-{source.name}-{source.split}-{source.fingerprint}.json"
    path = folder / name.replace("/", "-")
    known = _read(path)
    if known is None:
        before = dict(source.skipped)
        good = source.usable(np.arange(len(source)))
        if not source.skipped:
            return source
        known = {
            "used": good.tolist() if len(good) < len(source) else None,
            "images": len(source) + len(before),
            "skipped": source.skipped,
        }
        folder.mkdir(exist_ok=True, parents=True)
        write_json(path, known)
    used = np.arange(len(source)) if known["used"] is None else np.array(known["used"])
    print(
        f"{source.name} {source.split}: {len(used):,} of {known['images']:,} images "
        f"are used, the others cannot be decoded ({path})",
        flush=True,
    )
    return source if known["used"] is None else Subset(source, used)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
