"""Leaves out pictures that cannot be decoded."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from byol_bnfree.data.sources import Source
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.images.subset import Subset
from byol_bnfree.files import file_name, write_json


def usable_only(source: Source, folder: Path, *, skip: bool) -> Source:
    """Return the images that can be decoded. No image is counted twice.

    Without `skip` that is every image: one that cannot be decoded must stop the
    evaluation, whatever an earlier one has left out. With `skip` it prints how many are
    used. It also writes a file to `folder` that names the others and the reasons. The
    next evaluation reads this file instead of decoding everything.

    Raises:
      InputError: if no image can be decoded.
    """
    if not skip or (source.in_memory and not source.skipped):
        return source
    name = file_name(f"skipped-{source.name}-{source.split}-{source.fingerprint}")
    path = folder / f"{name}.json"
    known = _read(path)
    if known is None:
        # A copy, because `usable` adds to it.
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
    every = known["used"] is None
    used = np.arange(len(source)) if every else np.array(known["used"], int)
    if not len(used):
        raise InputError(
            f"no picture of the {source.split} split of {source.name} can be decoded; "
            f"repair them or use others ({path} has the reasons)."
        )
    print(
        f"{source.name} {source.split}: {len(used):,} of {known['images']:,} images "
        f"are used; the others cannot be decoded ({path})",
        flush=True,
    )
    return source if every else Subset(source, used)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
