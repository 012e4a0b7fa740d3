"""Files that are whole or absent after a crash, and JSON that every reader accepts."""

import json
import math
import os
from pathlib import Path
from typing import Any

from byol_bnfree.errors import InputError


def strict(value: Any) -> Any:
    """`value` as strict JSON holds it: NaN and infinities become None (null)."""
    if isinstance(value, dict):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy and JAX arrays and scalars
        return strict(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file, None if there is none; `InputError` if it is not."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path} is not JSON; restore or delete it.") from None


def write_json(path: Path, obj: Any) -> None:
    """Writes `obj` as strict JSON: after a crash the file is the old or the new one."""
    text = json.dumps(strict(obj), indent=2, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces `path` in one step, on disk before this returns. Raises OSError."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable; fsync of a file does not cover its name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
